"""Regular expressions that cannot hang: time grows with the length of the text and nothing else.

    pattern = LinearPattern("order [0-9]{5}")
    pattern.search("my order 48213")                       # True
    pattern.replace("my order 48213", "[ORDER]")           # 'my [ORDER]'

The engine is Rust's `regex`, which runs an automaton instead of trying one way after another; so it has neither look-around
nor back-references, and refuses them. Two libraries at hand bring it: jsonschema-rs answers "is it in there" in a fifth of a
microsecond, polars replaces. The former reads the classes of digits and word characters as JavaScript does (ASCII only), so
both are spelt out for the two, and mean those of every script. tests/text/test_linear.py holds one to the other.
"""

import re
from typing import Any

_TOKEN = re.compile(r"\\(?P<escape>.)|(?P<open>\[\^?\]?)|(?P<close>\])", re.DOTALL)
_WORD = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}"
_SPELT = {"d": r"\p{Nd}", "D": r"\P{Nd}", "s": r"\p{White_Space}", "S": r"\P{White_Space}"}
LARGEST = 64 << 20
"""Bytes that a compiled pattern may take."""
STATES = 16 << 20
"""Bytes for the states that a pattern meets while it searches; with a quarter of that, some are made again and again."""


class LinearPattern:
    """A compiled pattern; of no state, but not for sending to another process.

    Raises:
        ValueError: it is no regular expression of this kind; the text says where.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = _spelt(pattern)
        self._validator = _compile(self._pattern, pattern)

    def search(self, text: str) -> bool:
        """Say whether the pattern matches somewhere; half characters (lone surrogates) match nothing."""
        try:
            return bool(self._validator.is_valid(text))
        except (UnicodeEncodeError, ValueError):
            return bool(self._validator.is_valid(text.encode("utf-8", "replace").decode()))

    def replace(self, text: str, by: str) -> str:
        """Put `by`, as it stands, in the place of every match."""
        if not self.search(text):
            return text
        import polars as pl

        changed = pl.Series([text], dtype=pl.String).str.replace_all(self._pattern, by.replace("$", "$$"))
        return str(changed[0])


def gate(pattern: str) -> str:
    r"""Give a pattern that can be searched in linear time and matches wherever a Python one does, and perhaps elsewhere.

    Look-around and upper limits are taken out, a back-reference stands for anything short, and word boundaries are ASCII's,
    which hold wherever Unicode's do beside an ASCII sign; beside another sign they must not stand. So a text without a match
    needs no look with the exact pattern, which costs a hundred times as much.
    """
    flags, rest = re.match(r"(\(\?[a-z]+\))?(.*)", pattern, re.DOTALL).groups()  # type: ignore[union-attr]  # it always matches
    kept, position = [], 0
    for found in re.finditer(r"\\.|\(\?<?[=!]", rest, re.DOTALL):
        if found.start() < position or found[0].startswith("\\"):
            continue
        kept.append(rest[position : found.start()])
        position = _end_of_group(rest, found.start())
    bare = "".join([*kept, rest[position:]])
    bare = re.sub(r"\\([b1-9])", lambda found: r"(?-u:\b)" if found[1] == "b" else ".{0,9}", bare)
    bare = re.sub(r"\(\?P<\w+>", "(?:", bare)
    bare = re.sub(r"\{(\d+),\d{2,}\}", r"{\1,}", bare)
    return f"(?{flags[2:-1]}:{bare})" if flags else f"(?:{bare})"


def _end_of_group(pattern: str, start: int) -> int:
    depth, place, in_class = 0, start, False
    while place < len(pattern):
        sign = pattern[place]
        if sign == "\\":
            place += 1
        elif in_class:
            in_class = sign != "]"
        elif sign == "[":
            in_class = True
            place += pattern[place + 1 : place + 2] == "]"
        elif sign in "()":
            depth += 1 if sign == "(" else -1
            if depth == 0:
                return place + 1
        place += 1
    raise ValueError(f"{pattern!r} has an open group")


def _spelt(pattern: str) -> str:
    """Spell out the classes that the two libraries read differently; one of them knows no class inside a class."""
    kept, position, in_class = [], 0, False
    for found in _TOKEN.finditer(pattern):
        kept.append(pattern[position : found.start()])
        position = found.end()
        said = found[0]
        if found["escape"] in ("w", "W"):
            if in_class and found["escape"] == "W":
                raise ValueError(rf"{pattern!r} has \W inside brackets: write the signs themselves")
            said = _WORD if in_class else f"[{'^' if found['escape'] == 'W' else ''}{_WORD}]"
        elif found["escape"]:
            said = _SPELT.get(found["escape"], said)
        elif found["open"] and not in_class:
            in_class = True
        elif found["close"]:
            in_class = False
        kept.append(said)
    return "".join([*kept, pattern[position:]])


def _compile(spelt: str, pattern: str) -> Any:
    import jsonschema_rs

    options = jsonschema_rs.RegexOptions(size_limit=LARGEST, dfa_size_limit=STATES)
    try:
        return jsonschema_rs.validator_for({"pattern": spelt}, pattern_options=options)
    except jsonschema_rs.ValidationError:
        raise ValueError(f"{pattern!r} is no pattern that can be searched in linear time{_why(pattern)}") from None


def _why(pattern: str) -> str:
    if re.search(r"\(\?(?:<?[=!])", pattern):
        return ": it looks around, (?=…), (?!…), (?<=…) or (?<!…)"
    if re.search(r"\\[1-9]|\(\?P=", pattern):
        return ": it refers back to a group"
    try:
        re.compile(pattern)
    except re.error as error:
        return f": {error.msg}" + ("" if error.pos is None else f" at character {error.pos + 1}")
    return ": it is too large, or written as this engine does not know it"
