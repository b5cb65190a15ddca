"""N-grams of words and of characters, as sets.

A text shorter than n is its own single n-gram: otherwise short texts would have no n-gram and could never match anything.
"""


def word_ngrams(text: str, n: int) -> frozenset[str]:
    words = text.split()
    if len(words) < n:
        return frozenset([" ".join(words)]) if words else frozenset()
    return frozenset(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))


def char_ngrams(text: str, n: int) -> frozenset[str]:
    if len(text) < n:
        return frozenset([text]) if text else frozenset()
    return frozenset(text[i : i + n] for i in range(len(text) - n + 1))
