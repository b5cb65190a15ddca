"""N-grams of words and of characters, as sets.

A text shorter than n is its own single n-gram: otherwise short texts would have no n-gram and could never match anything.
"""

from collections.abc import Set


def word_ngrams(text: str, n: int) -> Set[str]:
    words = text.split()
    if len(words) < n:
        return {" ".join(words)} if words else set()
    return {" ".join(words[i : i + n]) for i in range(len(words) - n + 1)}


def char_ngrams(text: str, n: int) -> Set[str]:
    if len(text) < n:
        return {text} if text else set()
    return {text[i : i + n] for i in range(len(text) - n + 1)}
