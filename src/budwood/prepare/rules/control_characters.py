"""control_characters: take out characters that nobody sees and that change what a model reads.

C0 and C1 controls except tab and line ends, marks of text direction (they can make a text read differently than it shows),
zero-width spaces, byte order marks and soft hyphens. Joiners (U+200C, U+200D) stay: Persian, Indic scripts and emoji need
them.
"""

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from budwood.prepare.row import Drop, Row

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f"  # controls, but not tab, line ends (U+0085 is one)
    "\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\ufff9-\ufffb]"
)


@dataclass(frozen=True)
class ControlCharacters:
    name: ClassVar[str] = "control_characters"
    version: ClassVar[int] = 1

    def options(self) -> dict[str, Any]:
        return {}

    def apply(self, row: Row) -> Row | Drop:
        return row.mend(self.name, "invisible characters removed", _visible)


def _visible(text: str) -> str:
    # None of them is printable, and to ask for that is ten times as fast as to look for them.
    return text if text.isprintable() else _INVISIBLE.sub("", text)
