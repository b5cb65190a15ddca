"""What a row says, normalised: by this rows are the same, in conflict, or near.

"The same prompt" means: system message, tools and turns before the answer are equal after normalisation; calls and tools,
whose letters are meant as they stand, are compared as canonical JSON, without the calls' ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from budwood.prepare.row import Message, Row
from budwood.text.normalise import normalise
from budwood.tool_calls import Tool, canonical_text, written


@dataclass(frozen=True, slots=True)
class Says:
    """What a row says; keys are of 16 bytes.

    Args:
        prompt: key of everything before the answer, system message and tools included.
        turns: text of everything before the answer, without system message and tools: what near-duplicates are judged by.
        answer: key of the answer.
        meaning: key of system message, tools and answer: what a near-duplicate has to share besides the prompt.
    """

    prompt: bytes
    turns: str
    answer: bytes
    meaning: bytes

    @property
    def key(self) -> bytes:
        return self.prompt + self.answer


def says(row: Row) -> Says:
    *before, last = row.messages
    turns = [said_by(message) for message in before if message.role != "system"]
    system = [said_by(message) for message in before if message.role == "system"]
    offered = [canonical_text(row.tools)] if row.tools else []
    answer = key(said_by(last))
    first = row.messages[0]
    around = key(normalise(first.content)) if first.role == "system" else b""
    if row.tools:
        around += key(offered[0])
    meaning = blake2b(around + answer, digest_size=16).digest()
    return Says(key("\x1e".join([*offered, *system, "\x1f", *turns])), " ".join(turns), answer, meaning)


def task_text(messages: Sequence[Message], tools: Sequence[Tool]) -> str:
    """Give what of a prompt is no turn: system message and tools."""
    return canonical_text([[said_by(one) for one in messages[:-1] if one.role == "system"], tools])


def key(text: str) -> bytes:
    return blake2b(text.encode("utf-8"), digest_size=16).digest()


def said_by(message: Message) -> str:
    """A message's text, normalised, and its calls as they are compared."""
    text = normalise(message.content)
    return f"{text} {written(message.calls)}".strip() if message.calls else text
