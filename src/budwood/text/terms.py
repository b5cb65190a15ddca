"""A list of words and phrases, looked for in any spelling: case, accents, width and invisible characters make no difference.

    terms = TermList(["idiot", "damn*", "go to hell"])
    terms.first("You IDÏOT!")        # 1, the place in the list; 0: none
    terms.first("idiotic")           # 0: a term is a whole word, unless it ends in *

A phrase's words may be parted by any white space. At a letter of a script that puts no spaces between words (Chinese,
Japanese, Thai …) a term needs no word boundary. Time does not grow with the number of terms: they are one automaton.
"""

import re
import unicodedata
from collections.abc import Sequence

from budwood.text.linear import LinearPattern

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fff\u3005-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_WORD = r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}]"


class TermList:
    """Compiled terms.

    Raises:
        ValueError: a term is empty once folded.
    """

    def __init__(self, terms: Sequence[str]) -> None:
        self._patterns = [_pattern(term) for term in terms]
        self._any = LinearPattern("|".join(f"(?:{pattern})" for pattern in self._patterns)) if terms else None

    def first(self, text: str) -> int:
        """Give the place, from 1, of the first term of the list that the text holds; 0: none."""
        if self._any is None:
            return 0
        folded = fold(text)
        if not self._any.search(folded):
            return 0
        return next(place for place, pattern in enumerate(self._patterns, start=1) if LinearPattern(pattern).search(folded))


def fold(text: str) -> str:
    """Give the form in which terms are compared."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", _INVISIBLE.sub("", text))
        text = "".join(sign for sign in text if not unicodedata.combining(sign))
    return text.casefold()


def _pattern(term: str) -> str:
    words = fold(term.removesuffix("*")).split()
    if not words:
        raise ValueError(f"the term {term!r} holds nothing to look for")
    body = r"\s+".join(re.sub(r"([\\.+*?()|\[\]{}^$#&\-~])", r"\\\1", word) for word in words)
    before = "" if _UNSPACED.match(words[0]) else r"(?:^|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}])"
    if term.endswith("*") or _UNSPACED.match(words[-1][-1]):
        return before + body
    return before + body + r"(?:$|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}])"
