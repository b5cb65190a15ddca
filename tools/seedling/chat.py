"""Conversations as the seedling sees them, and the one template that renders them.

`render` and the Jinja template in tokenizer_config.json give the same text (tests hold them to each other).
"""

from __future__ import annotations

Chat = list[tuple[str, str]]  # (role, content), roles system, user, assistant

PAD, TEXT_END, SYSTEM, USER, ASSISTANT, END = SPECIALS = (
    "<|pad|>",
    "<|endoftext|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
)
TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] -%}"
    "{{- raise_exception('unknown role: ' + message['role'] + '; use system, user or assistant') -}}"
    "{%- endif -%}"
    "{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def ask(question: str, answer: str, system: str | None = None) -> Chat:
    """One question and its answer."""
    return [*([("system", system)] if system else []), ("user", question), ("assistant", answer)]


def render(chat: Chat) -> str:
    return "".join(f"<|{role}|>{content}{END}" for role, content in chat)
