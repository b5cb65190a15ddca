"""The Jinja text of a chat template: the base's own, or ours for bases that have none; held to one day."""

import re
from datetime import date
from typing import Any

from budwood.errors import BaseError
from budwood.identity import Digest, digest_bytes

DEFAULT_TEMPLATE = (
    "{% if bos_token %}{{ bos_token }}{% endif %}"
    "{% if tools %}tools:\n{% for tool in tools %}{{ tool['function'] | tojson }}\n{% endfor %}{% endif %}"
    "{% for message in messages %}{{ message['role'] }}:\n{{ message['content'] }}"
    "{% for call in message['tool_calls'] or [] %}{% if message['content'] or not loop.first %}{{ '\n' }}{% endif %}"
    "<tool_call>\n{\"name\": {{ call['function']['name'] | tojson }}, "
    "\"arguments\": {{ call['function']['arguments'] | tojson }}}\n</tool_call>{% endfor %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}\n\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:\n{% endif %}"
)
"""For bases that have no template: a line with the role, then the text; an answer ends with the base's own end token. Tools
are listed first, a function a line; a call is a JSON object between <tool_call> and </tool_call>, as several families write
it; a result is what "tool" says."""

TEMPLATE_DATE = date(2024, 7, 26)
"""The day that templates which print today's date are held to: the one that Llama 3's template falls back to."""

TOKENIZER = "the base's tokenizer"
"""Where a template is from when the caller knows no file."""

_CLOCK = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1\s*\)""")


def template_source(declared: Any, *, where: str = TOKENIZER) -> str:
    """Give the Jinja text that is used where a base declares this template, or None: the default, and no clock.

    Raises:
        BaseError: there are several, or it prints the date in a way that cannot be pinned.
    """
    if declared is not None and not isinstance(declared, str):
        raise BaseError(
            "The base has several chat templates.",
            where=where,
            mend="Keep one, in chat_template.jinja.",
        )
    return _without_clock(declared or DEFAULT_TEMPLATE, where)


def source_digest(source: str) -> Digest:
    """Digest of a template, as `ChatTemplate.digest` and a base's identity have it."""
    return digest_bytes(source.encode("utf-8", "surrogatepass"))


def _without_clock(source: str, where: str) -> str:
    """Put a fixed date in the place of today's: a prompt must not change overnight, nor between training and serving."""
    fixed = _CLOCK.sub(lambda call: repr(TEMPLATE_DATE.strftime(call[2])), source)
    if re.search(r"strftime_now\s*\(", fixed):
        raise BaseError(
            "The base's chat template asks for the date in a way that cannot be fixed: strftime_now without literal format.",
            where=where,
            mend="Write the date out in chat_template.jinja.",
        )
    return fixed
