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
    version: ClassVar[int] = 2
    leaves_plain: ClassVar[bool] = True

    def options(self) -> dict[str, Any]:
        return {"form": "NFC", "mojibake": "repaired"}

    def apply(self, row: Row) -> Row | Drop:
        # Nearly all rows of many sets are plain ASCII, and a look at them costs a thousandth of ftfy's.
        if all(text.isascii() for message in row.messages for text in message.texts):
            return row
        repaired = row.mend(self.name, "mojibake repaired", _repair)
        if repaired is not row and any(_is_bad(text) for message in repaired.messages for text in message.texts):
            repaired = repaired.touch(self.name, "flagged", "mojibake is left that lost a sign and cannot be repaired")
        row = repaired
        return row.mend(self.name, "characters composed", lambda text: unicodedata.normalize("NFC", text))


_FOREIGN = re.compile("[^\x00-\x7f]+")
_AROUND = 8
"""Signs around a foreign one of which mojibake may consist."""
_FOREIGN_PARTS = re.compile(f"[^\x00-\x7f]+(?:[\x00-\x7f]{{1,{2 * _AROUND}}}[^\x00-\x7f]+)*")
"""Foreign signs and what parts them, where it is little: what stands around them is not foreign."""
_NEVER_MOJIBAKE = re.compile(
    "[\x00-\x7f\u00a0\u200b-\u200f\u2028\u2029\ufeff‘’“”–—…•™€°\u2e80-\ud7ff\uf900-\ufaff\ufe30-\uffef\U0001f000-\U0001ffff]*"
)
"""Mojibake holds at least one Latin, Greek or Cyrillic letter, or a sign that these leave out."""


def _repair(text: str) -> str:
    # A look costs 5 µs, ftfy's own 60 µs, for 100 words with a curly quote.
    if text.isascii() or _NEVER_MOJIBAKE.fullmatch(text):
        return text
    if not _is_bad(text):
        return text
    import ftfy

    mended = ftfy.fix_encoding(text)
    if not _is_bad(mended):
        return mended
    # Lossy mojibake is left, and hinders the rest: what was proven for the text is done to each run of foreign signs.
    return _FOREIGN.sub(_decoded, mended)


def _is_bad(text: str) -> bool:
    """Whether ftfy sees mojibake in it; the way from sign to sign is a hundred times as long for it as for a search.

    All that it looks for holds a foreign sign and no more than a few signs around it (tests/prepare/rules/test_pairs.py).
    """
    from ftfy.badness import is_bad

    places = (found.span() for found in _FOREIGN_PARTS.finditer(text))
    return any(is_bad(text[max(0, start - _AROUND) : end + _AROUND]) for start, end in places)


def _decoded(run: re.Match[str]) -> str:
    try:
        return run[0].encode("sloppy-windows-1252").decode("utf-8")
    except UnicodeError:
        return run[0]
