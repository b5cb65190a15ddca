"""unicode: repair mojibake, compose characters.

Mojibake is text that was once decoded as the wrong encoding ("itâ€™s" for "it’s"). ftfy repairs it where the evidence is
strong, and leaves what might be meant. Characters are then composed (NFC), so that one letter is one letter to a tokenizer.
Typographic quotes, dashes and ligatures stay as they are.
"""

import unicodedata
from dataclasses import dataclass
from typing import Any, ClassVar

from budwood.prepare.row import Drop, Message, Row


@dataclass(frozen=True)
class Unicode:
    name: ClassVar[str] = "unicode"
    version: ClassVar[int] = 1

    def options(self) -> dict[str, Any]:
        return {"form": "NFC", "mojibake": "repaired"}

    def apply(self, row: Row) -> Row | Drop:
        # Nearly all rows of many sets are plain ASCII, and a look at them costs a thousandth of ftfy's.
        if all([_is_plain(message) for message in row.messages]):
            return row
        row = row.mend(self.name, "mojibake repaired", _repair)
        return row.mend(self.name, "characters composed", lambda text: unicodedata.normalize("NFC", text))


def _is_plain(message: Message) -> bool:
    if message.calls or message.name:
        return all([text.isascii() for text in message.texts])
    return message.content.isascii()


def _repair(text: str) -> str:
    if text.isascii():
        return text
    import ftfy

    return ftfy.fix_encoding(text)
