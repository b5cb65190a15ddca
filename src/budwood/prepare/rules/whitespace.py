"""whitespace: one kind of line end, one kind of space, none around a message.

Line ends become LF; no-break and other wide or narrow spaces become plain ones; white space before and after a message
goes. Inside, runs of spaces and empty lines stay: in code, tables and Markdown they mean something. So do the arguments of
tool calls, which a program reads.
"""

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from budwood.prepare.row import Drop, Row

_LINE_END = re.compile("\r\n?|\u0085|\u2028|\u2029")
_SPACE = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")


@dataclass(frozen=True)
class Whitespace:
    name: ClassVar[str] = "whitespace"
    version: ClassVar[int] = 1
    leaves_plain: ClassVar[bool] = True

    def options(self) -> dict[str, Any]:
        return {}

    def apply(self, row: Row) -> Row | Drop:
        if all(_is_plain(message.content) for message in row.messages):
            return row
        return row.mend(self.name, "white space normalised", _plain, arguments=False)


def _is_plain(text: str) -> bool:
    return text.isascii() and "\r" not in text and (not text or not (text[0].isspace() or text[-1].isspace()))


def _plain(text: str) -> str:
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.isascii():
        text = _SPACE.sub(" ", _LINE_END.sub("\n", text))
    return text.strip()
