"""How alike two texts are: true Jaccard similarity of their shingles.

Long texts are compared by 5-grams of words. Short ones are compared by 5-grams of characters, because one changed word
breaks five word shingles at once: in a 20-word question that alone takes the similarity from 1.0 to 0.5. A pair of which
either side is short is compared by characters, so that no pair falls between the two kinds.
"""

from collections.abc import Set
from typing import Literal

from budwood.text.ngrams import char_ngrams, word_ngrams

SHORT_WORDS = 50
"""Texts with fewer words are short."""
SHINGLE = 5
"""Length of a shingle, in words or in characters."""

Kind = Literal["words", "characters"]


def similarity(first: str, second: str) -> float:
    """Compare two normalised texts (`budwood.text.normalise`): 1.0 for the same shingles, 0.0 for none shared."""
    kind: Kind = "characters" if is_short(first) or is_short(second) else "words"
    return jaccard(shingles(first, kind), shingles(second, kind))


def is_short(text: str) -> bool:
    """Say whether a normalised text is compared by characters."""
    return count_words(text) < SHORT_WORDS


def count_words(text: str) -> int:
    """Count the words of a normalised text, in which single spaces part them."""
    return text.count(" ") + 1 if text else 0


def shingles(text: str, kind: Kind) -> Set[str]:
    return word_ngrams(text, SHINGLE) if kind == "words" else char_ngrams(text, SHINGLE)


def jaccard(first: Set[str], second: Set[str]) -> float:
    """Divide the size of the intersection by that of the union; two empty sets are the same, so 1.0."""
    shared = len(first & second)
    union = len(first) + len(second) - shared
    return shared / union if union else 1.0
