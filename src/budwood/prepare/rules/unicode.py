"""unicode: repair mojibake, compose characters.

Mojibake is text that was once decoded as the wrong encoding ("itâ€™s" for "it’s"). ftfy repairs it where the evidence is
strong, and leaves what might be meant; texts whose only foreign signs are typographic, East Asian or emoji are not shown to
it. Characters are then composed (NFC), so that one letter is one letter to a tokenizer. Typographic quotes, dashes and
ligatures stay as they are.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Any, ClassVar

from budwood.prepare.row import Drop, Row


@dataclass(frozen=True)
class Unicode:
    name: ClassVar[str] = "unicode"
    version: ClassVar[int] = 1

    def options(self) -> dict[str, Any]:
        return {"form": "NFC", "mojibake": "repaired"}

    def apply(self, row: Row) -> Row | Drop:
        # Nearly all rows of many sets are plain ASCII, and a look at them costs a thousandth of ftfy's.
        if all(text.isascii() for message in row.messages for text in message.texts):
            return row
        row = row.mend(self.name, "mojibake repaired", _repair)
        return row.mend(self.name, "characters composed", lambda text: unicodedata.normalize("NFC", text))


_NEVER_MOJIBAKE = re.compile("[\x00-\x7f‘’“”–—…•™€°\u2e80-\ud7ff\uf900-\ufaff\ufe30-\uffef\U0001f000-\U0001ffff]*")
"""Mojibake holds at least one Latin, Greek or Cyrillic letter, or a sign that these leave out."""


def _repair(text: str) -> str:
    # A look costs 5 µs, ftfy's own 60 µs, for 100 words with a curly quote.
    if text.isascii() or _NEVER_MOJIBAKE.fullmatch(text):
        return text
    import ftfy

    return ftfy.fix_encoding(text)
