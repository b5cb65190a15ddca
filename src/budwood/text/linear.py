r"""Regular expressions that cannot hang: time grows with the length of the text and nothing else.

    pattern = LinearPattern(r"\border \d{5}\b")
    pattern.search("my order 48213")                       # True
    pattern.replace("my order 48213", "[ORDER]")           # 'my [ORDER]'

The engine is Rust's `regex`, which runs an automaton instead of trying one way after another; so it has neither look-around
nor back-references, and refuses them. Two libraries at hand bring it: jsonschema-rs answers "is it in there" in a fifth of a
microsecond, polars replaces. The former reads \d and \w as JavaScript does (ASCII only), so both are spelt out for the two,
and mean digits and word characters of every script. tests/text/test_linear.py holds one to the other.
"""

import re
from typing import Any

_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_SPELT = {
    "d": r"\p{Nd}",
    "D": r"\P{Nd}",
    "w": r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}]",
    "W": r"[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}]",
    "s": r"[\p{White_Space}]",
    "S": r"[^\p{White_Space}]",
}
LARGEST = 64 << 20
"""Bytes that a compiled pattern may take."""


class LinearPattern:
    """A compiled pattern; of no state, but not for sending to another process.

    Raises:
        ValueError: it is no regular expression of this kind; the text says where.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = _ESCAPE.sub(lambda found: _SPELT.get(found[1], found[0]), pattern)
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


def _compile(spelt: str, pattern: str) -> Any:
    import jsonschema_rs

    options = jsonschema_rs.RegexOptions(size_limit=LARGEST, dfa_size_limit=LARGEST)
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
