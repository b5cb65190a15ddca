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
    leaves_plain: ClassVar[bool] = True

    def options(self) -> dict[str, Any]:
        return {}

    def apply(self, row: Row) -> Row | Drop:
        # `isprintable` knows every character of the list, and line ends and a few more; it takes a hundredth of a search.
        if not any(_holds(text) for message in row.messages for text in message.texts):
            return row
        return row.mend(self.name, "invisible characters removed", lambda text: _INVISIBLE.sub("", text))


def _holds(text: str) -> bool:
    plain = text.replace("\n", "").replace("\t", "") if "\n" in text or "\t" in text else text
    return not plain.isprintable() and _INVISIBLE.search(text) is not None
