"""What is looked for: texts, expressions, values of columns, rows by their ids. A row that any of them fits is meant.

    wanted = make_wanted(texts=["Ann  LEE"], columns=["customer=C-4711"])
    wanted.in_row({"messages": [{"role": "user", "content": "I am ann lee"}]})      # True

Texts are compared as `text.normalise` makes them: letter case, width and white space do not matter.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from budwood.errors import DataError
from budwood.text.normalise import normalise

SHORTEST_ID = 6
"""Digits of a row id that are enough to name it."""
_OURS = frozenset(
    ("row_id", "source", "group", "split", "weight", "tokens", "touched", "rule", "reason", "case_id", "finish", "scores")
)
"""Keys of a stored row or case whose values are words and figures of ours."""


@dataclass(frozen=True)
class Wanted:
    """Made by `make_wanted`."""

    texts: tuple[str, ...]
    patterns: tuple[re.Pattern[str], ...]
    columns: tuple[tuple[str, str], ...]
    rows: tuple[str, ...]

    @property
    def has_text(self) -> bool:
        """Whether any text can be looked through for it, not rows alone."""
        return bool(self.texts or self.patterns)

    def in_text(self, text: str) -> bool:
        if self.texts:
            plain = normalise(text)
            if any(wanted in plain for wanted in self.texts):
                return True
        return any(pattern.search(text) for pattern in self.patterns)

    def may_hold(self, line: bytes) -> bool:
        """Whether a line of JSON has to be read to know; False is certain, and takes a fifth of the time of reading it."""
        if self.patterns or self.columns or self.rows or b"\\" in line:
            # Only what is spelled out stands in the line as it is meant.
            return True
        plain = normalise(line.decode("utf-8", "surrogatepass"))
        return any(text in plain for text in self.texts)

    def in_value(self, value: object) -> bool:
        """Look through everything that a JSON value holds, keys and numbers included."""
        return self.has_text and any(map(self.in_text, scalars(value)))

    def in_row(self, row: Mapping[str, Any]) -> bool:
        """Look through a stored row or case; what it says of itself besides (file, group, scores) does not count."""
        row_id = row.get("row_id", row.get("case_id", ""))
        if self.rows and str(row_id).startswith(self.rows):
            return True
        if self.columns and self._in_columns(row.get("slices") or {}):
            return True
        return self.in_value({key: value for key, value in row.items() if key not in _OURS})

    def _in_columns(self, slices: Mapping[str, Any]) -> bool:
        return any(name in slices and normalise(str(slices[name])) == value for name, value in self.columns)


def make_wanted(
    *,
    texts: Sequence[str] = (),
    patterns: Sequence[str] = (),
    columns: Sequence[str] = (),
    rows: Sequence[str] = (),
) -> Wanted:
    """Check what is looked for.

    Args:
        texts: literal.
        patterns: regular expressions as Python reads them, searched in each text as it is stored.
        columns: NAME=VALUE.
        rows: row ids, or their first six digits or more.

    Raises:
        DataError: nothing is looked for, or something that cannot be or would fit everything.
    """
    plain = tuple(normalise(text) for text in texts)
    if any(not text for text in plain):
        raise DataError("An empty text is in every row.", where="--match", mend="Say what is looked for.")
    if not (texts or patterns or columns or rows):
        raise DataError("Nothing is looked for.", mend="Give --match, --pattern, --column or --row.")
    return Wanted(plain, tuple(map(_pattern, patterns)), tuple(map(_column, columns)), tuple(map(_row, rows)))


def scalars(value: object) -> Iterator[str]:
    """Go through the strings and numbers of a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, held in value.items():
            yield key
            yield from scalars(held)
    elif isinstance(value, list | tuple):
        for held in value:
            yield from scalars(held)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)


def spoken(row: Mapping[str, Any]) -> list[str]:
    """What was said in a stored row, normalised, instructions of the system left out; of an unreadable record its raw text."""
    if "raw" in row:
        return [normalise(str(row["raw"]))]
    messages = [message for message in row.get("messages", ()) if message.get("role") != "system"]
    said = ([message.get("content"), message.get("tool_calls"), message.get("name")] for message in messages)
    return [normalise(" ".join(scalars(parts))) for parts in said]


def key_of(row: Mapping[str, Any]) -> bytes:
    """Tell rows apart by what is said in them; 16 bytes that live in memory only, since they could be guessed back."""
    return blake2b("\x1e".join(spoken(row)).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _pattern(text: str) -> re.Pattern[str]:
    try:
        found = re.compile(text)
    except re.error as error:
        raise DataError(
            f"A pattern cannot be read: {error}.", where="--pattern", mend="Write it as Python's re does."
        ) from None
    if found.search(""):
        raise DataError("A pattern fits the empty text, and so every row.", where="--pattern", mend="Make it say more.")
    return found


def _column(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name.strip() or not value.strip():
        raise DataError("A column is given without its name or value.", where="--column", mend="Write NAME=VALUE.")
    return name.strip(), normalise(value)


def _row(text: str) -> str:
    digits = text.strip().removesuffix("…").lower()
    if len(digits) < SHORTEST_ID or not set(digits) <= set("0123456789abcdef"):
        raise DataError(
            f"{text!r} is no row id.",
            where="--row",
            mend=f"Give the first {SHORTEST_ID} digits or more, as listed in the data.",
        )
    return digits
