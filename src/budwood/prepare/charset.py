"""How a file's text is encoded: by its mark, by its zeros, or, where it is no UTF-8, by what its other bytes would spell.

    survey = Survey(head)
    for chunk in chunks: survey.add(chunk)
    survey.encoding(shown)                   # "utf-8", "utf-16", …, "cp1252"

Windows-1252 (which holds Latin-1's letters) is taken where all its bytes beyond ASCII spell letters of one Western European
language, or punctuation, and letters beyond ASCII are few; no other encoding of one byte a letter is ever guessed, because
bytes alone do not tell Polish from Czech or Russian. A file in which some places are UTF-8 and others are not is refused.
"""

import codecs
import re
from typing import NamedTuple

from budwood.errors import DataError

UTF8 = "utf-8"
WESTERN = "cp1252"
BOM = b"\xef\xbb\xbf"
MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
         (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
"""Longer ones first: UTF-32's begins as UTF-16's does."""
ALPHABETS = {
    "German": "äöüßÄÖÜ",
    "French": "àâæçéèêëîïôœùûüÿÀÂÆÇÉÈÊËÎÏÔŒÙÛÜ",
    "Spanish and Catalan": "áàéèíïóòúüñçÁÀÉÈÍÏÓÒÚÜÑÇ",
    "Portuguese": "áâãàçéêíóôõúüÁÂÃÀÇÉÊÍÓÔÕÚ",
    "Italian": "àèéìíîòóùúÀÈÉÌÒÙ",
    "Dutch": "éèëêïíóöüáäÉËÏÖÜ",
    "Danish, Norwegian": "æøåéÆØÅÉ",
    "Swedish, Finnish": "åäöéÅÄÖÉ",
    "Icelandic": "áðéíóúýþæöÁÐÉÍÓÚÝÞÆÖ",
}
PUNCTUATION = set("‘’‚“”„–—…•€™«»¡¿£§°·´©®×\u00a0\u00ad")
MOST_FOREIGN = 0.25
"""Of a text's letters, those beyond ASCII: in French every twentieth, in Russian every one."""
RARE = 0.002
"""Share of foreign letters that may lie outside of an alphabet: names and loan words."""


class Invalid(NamedTuple):
    """The first byte that begins no character of UTF-8."""

    byte: int
    line: int
    offset: int


class Survey:
    """Looks at a file's unpacked bytes, from its start, once."""

    def __init__(self, head: bytes) -> None:
        self._marked = _marked(head)
        self._decoder = codecs.getincrementaldecoder(self._marked or UTF8)("strict")
        self._offset = self._lines = 0
        self._invalid: Invalid | None = None
        self._fault = ""
        self._counts = [0] * 256
        self._letters = 0
        self._as_utf8 = False
        self._rest = b""
        self.size = 0
        self.has_line_feed = self.has_return = False

    def add(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.has_line_feed = self.has_line_feed or b"\n" in chunk
        self.has_return = self.has_return or b"\r" in chunk
        if self._marked:
            self._try(chunk)
            return
        if chunk.isascii() and not self._rest and self._invalid is None and not self._decoder.getstate()[0]:
            self._letters += len(chunk)
        else:
            self._try(chunk)
            self._count(chunk)
        self._lines += chunk.count(b"\n")
        self._offset += len(chunk)

    def _try(self, chunk: bytes, *, final: bool = False) -> None:
        if self._invalid is not None or self._fault:
            return
        held = self._decoder.getstate()[0]
        try:
            text = self._decoder.decode(chunk, final)
        except UnicodeError as error:
            if self._marked or not isinstance(error, UnicodeDecodeError):
                self._fault = str(error)
                return
            place = error.start
            data = held + chunk
            self._invalid = Invalid(
                data[place], self._lines + 1 + data.count(b"\n", 0, place), self._offset - len(held) + place
            )
        else:
            self._as_utf8 = self._as_utf8 or not text.isascii()

    def _count(self, chunk: bytes) -> None:
        """Count bytes beyond ASCII, once it is known that they are no UTF-8 (before that, they were)."""
        if self._invalid is None:
            return
        data = self._rest + chunk
        # A run of bytes beyond ASCII is judged whole.
        whole = data.rstrip(bytes(range(0x80, 0x100)))
        self._rest = data[len(whole) :][-64:]
        self._letters += sum(map(len, _LETTERS.findall(whole)))
        for run in _RUNS.findall(whole):
            for byte in run:
                self._counts[byte] += 1
            try:
                run.decode(UTF8)
            except UnicodeDecodeError:
                continue
            self._as_utf8 = True

    def encoding(self, shown: str) -> str:
        """Name the encoding.

        Raises:
            DataError: it is none that can be told for certain.
        """
        self._try(b"", final=True)
        if self._fault:
            raise DataError(f"{shown} is not {self._marked}: {self._fault}.", mend="Save the file as UTF-8.")
        if self._marked or self._invalid is None:
            return self._marked or UTF8
        self._count(b" ")
        reason = self._not_western()
        if reason:
            raise self._refusal(shown, reason)
        return WESTERN

    def check_utf8(self, shown: str) -> None:
        """Raises DataError where the bytes are no UTF-8."""
        self._try(b"", final=True)
        if self._invalid is not None:
            raise self._refusal(shown, "The recipe states that it is.")

    def _refusal(self, shown: str, reason: str) -> DataError:
        assert self._invalid is not None
        byte, line, offset = self._invalid
        return DataError(
            f"{shown} is not UTF-8: byte {byte:#04x} on line {line:,} (offset {offset:,}) begins no character. {reason}",
            mend='If you know its encoding, state it in [[source]], e.g. encoding = "cp1250"; or save the file as UTF-8.',
        )

    def _not_western(self) -> str:
        if self._as_utf8:
            return "Other places of it are UTF-8."
        signs = {bytes([byte]).decode(WESTERN, "replace"): count for byte, count in enumerate(self._counts) if count}
        letters = {sign: count for sign, count in signs.items() if sign not in PUNCTUATION}
        foreign = sum(letters.values())
        odd = [sum(count for sign, count in letters.items() if sign not in held) for held in ALPHABETS.values()]
        if "\ufffd" in signs or min(odd) > RARE * foreign:
            return "As Windows-1252 it would spell no Western European language."
        if foreign > MOST_FOREIGN * (self._letters + foreign):
            return "As Windows-1252 it would have too many accents for a Western European language."
        return ""


_RUNS = re.compile(rb"[\x80-\xff]+")
_LETTERS = re.compile(rb"[A-Za-z]+")


def _marked(head: bytes) -> str:
    """An encoding that shows by its mark, or by the zeros that wide encodings put into ASCII text; else empty."""
    for mark, name in MARKS:
        if head.startswith(mark):
            return name
    if head.startswith(BOM) or head[:4] == b"PAR1":
        return ""
    part = head[: len(head) // 4 * 4][:4096]
    zeros = [part[place::4].count(0) / max(len(part) // 4, 1) for place in range(4)]
    patterns = {"utf-32-le": (0, 1, 1, 1), "utf-32-be": (1, 1, 1, 0), "utf-16-le": (0, 1, 0, 1), "utf-16-be": (1, 0, 1, 0)}
    for name, pattern in patterns.items():
        if len(part) >= 8 and all(abs(share - wanted) < 0.1 for share, wanted in zip(zeros, pattern, strict=True)):
            return name
    return ""
