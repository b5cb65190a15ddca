"""JSON as strangers write it, decoded strictly: nothing of two meanings is taken.

decode('{"a": 1}')         # {'a': 1}
decode('{"a": 1, "a": 2}') # ValueError: the key 'a' occurs twice
list(decode_list(["[1, 2", "3]"]))  # [1, 23]
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

MAY_GO_ON = 16
"""Characters before the end of what was read so far: what is wrong there may be right with more."""
SPACE = " \t\n\r"


def decode(text: str) -> Any:
    """Read a text as one JSON value.

    Raises:
        ValueError: its words say what is wrong and where: no JSON, a key twice, NaN or infinity, nested too deeply.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise _placed(error.msg, error.lineno, error.colno) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def decode_list(texts: Iterable[str], *, longest: int = 1 << 24) -> Iterator[Any]:
    """Read one JSON list item by item; no more than an item and a piece of text are held.

    Args:
        texts: the document in pieces, from its bracket on, cut anywhere.
        longest: characters of an item.

    Raises:
        ValueError: as `decode` of the whole, once the items before it have been given; or an item is too long.
    """
    reader = _Reader(iter(texts), longest)
    reader.take("[")
    if not reader.take("]", or_else=""):
        yield reader.item()
        while reader.take(",", or_else="]") == ",":
            yield reader.item()
    if reader.sign():
        raise reader.fault("Extra data")


class _Reader:
    """A text that is read on as it is needed, and given up as it is done with."""

    def __init__(self, texts: Iterator[str], longest: int) -> None:
        self._texts, self._longest = texts, longest
        self._held, self._at = "", 0
        self._ended = False
        self._lines, self._column = 0, 0

    def sign(self) -> str:
        """The next character that is no white space, which is left; empty at the end."""
        while True:
            held, at = self._held, self._at
            while at < len(held) and held[at] in SPACE:
                at += 1
            self._at = at
            if at < len(held):
                return held[at]
            if not self._more():
                return ""

    def take(self, sign: str, *, or_else: str = "\0") -> str:
        """Step over a character, or another; `or_else` empty: over none, where it is not there."""
        found = self.sign()
        if found == sign or (found and found == or_else):
            self._at += 1
            return found
        if or_else:
            raise self.fault("Expecting ',' delimiter")
        return ""

    def item(self) -> Any:
        self.sign()
        while True:
            fault: ValueError | None = None
            try:
                value, end = _DECODER.raw_decode(self._held, self._at)
                goes_on = end + MAY_GO_ON > len(self._held)
            except json.JSONDecodeError as error:
                fault = self.fault(error.msg, error.pos)
                goes_on = error.msg.startswith("Unterminated") or error.pos + MAY_GO_ON > len(self._held)
            except RecursionError:
                raise ValueError("nested too deeply") from None
            # A number, or a fault, that reaches to the end of what was read may be another with what follows.
            if goes_on and len(self._held) - self._at > self._longest and not self._ended:
                raise ValueError(f"an item has more than {self._longest:,} characters")
            if goes_on and self._more():
                continue
            if fault is not None:
                raise fault
            self._at = end
            return value

    def fault(self, said: str, place: int = -1) -> ValueError:
        end = self._at if place < 0 else place
        lines, column = self._counted(end)
        return _placed(said, lines + 1, column + 1)

    def _more(self) -> bool:
        """Read on, and give up what is done with; as much again as is held, so that a long item is not begun too often."""
        parts: list[str] = []
        wanted = max(1, len(self._held) - self._at)
        while wanted > 0 and (text := next(self._texts, None)) is not None:
            parts.append(text)
            wanted -= len(text)
        if not any(parts):
            self._ended = True
            return False
        self._lines, self._column = self._counted(self._at)
        self._held, self._at = "".join([self._held[self._at :], *parts]), 0
        return True

    def _counted(self, end: int) -> tuple[int, int]:
        """Line and column of a place, from 0."""
        breaks = self._held.count("\n", 0, end)
        if not breaks:
            return self._lines, self._column + end
        return self._lines + breaks, end - self._held.rindex("\n", 0, end) - 1


def _placed(said: str, line: int, column: int) -> ValueError:
    return ValueError(f"{said} at column {column}" + (f" of line {line}" if line > 1 else ""))


def kind(value: object) -> str:
    """Name the kind of a JSON value, with its article."""
    names = {list: "a list", dict: "an object", str: "a string", bool: "a truth value", type(None): "a null"}
    return names.get(type(value), "a number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        # Which of two values was meant cannot be known; json would take the last in silence.
        raise ValueError(f"the key {twice[:80]!r} occurs twice")
    return values


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)
