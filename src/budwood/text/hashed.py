"""Texts → numbers that a linear model can work on: hashed n-grams of words and of characters.

matrix = hashed_ngrams(texts)                  # (len(texts), 2**18), sparse, rows of length 1
weights[term_column("my", "card")]             # where the pair of words "my card" went
"""

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from budwood.text.normalise import normalise

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BITS = 18
COLUMNS = 1 << BITS
CHARACTERS = 4
"""Length of a character n-gram; those of words are single words and pairs."""
BLOCK = 256
"""Texts hashed at once: bounds the memory."""
_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
_SECOND, _LETTER, _MIX = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xBF58476D1CE4E5B9
"""Odd numbers without pattern, by which hashes are multiplied modulo 2**64."""


def words_of(text: str) -> list[str]:
    """Part a text, normalised, into words and signs."""
    return _WORD.findall(normalise(text))


def term_column(*words: str) -> int:
    """Give the column of a word, or of two words that follow each other."""
    import numpy as np

    hashes = np.array([_hash(word) for word in words], np.uint64)
    return int(_column(hashes if len(words) == 1 else _pairs(hashes))[0])


def hashed_ngrams(texts: Sequence[str]) -> Any:
    """Count n-grams into 2**18 columns, dampened (1 + log), weighted by rarity (log of rows over rows that have it).

    An n-gram of one text alone says nothing of others and is left out; each row is then scaled to length 1. What two
    n-grams that fall into one column do to each other is lost among the rest.

    Returns:
        A `scipy.sparse.csr_matrix` of float64; a text without n-grams in common with another is a row of zeros.
    """
    import numpy as np
    from scipy.sparse import csr_matrix, vstack

    known: dict[str, int] = {}
    blocks = [_block(texts[start : start + BLOCK], known) for start in range(0, len(texts), BLOCK)]
    counts = vstack(blocks, format="csr") if blocks else csr_matrix((0, COLUMNS))
    rows_with = np.bincount(counts.indices, minlength=COLUMNS)
    rarity = np.where(rows_with > 1, np.log((1 + len(texts)) / (1 + rows_with)), 0.0)
    counts.data = (1 + np.log(counts.data)) * rarity[counts.indices]
    counts.eliminate_zeros()
    lengths = np.sqrt(np.bincount(_row_of(counts), weights=counts.data**2, minlength=len(texts)))
    counts.data /= lengths[_row_of(counts)]
    return counts


def _block(texts: Sequence[str], known: dict[str, int]) -> Any:
    import numpy as np
    from scipy.sparse import csr_matrix

    plain = [normalise(text) for text in texts]
    words = [_WORD.findall(text) for text in plain]
    hashes = np.array([known.setdefault(w, known.get(w) or _hash(w)) for line in words for w in line], np.uint64)
    of_word = np.repeat(np.arange(len(texts)), [len(line) for line in words])
    letters = np.frombuffer("".join(plain).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    of_letter = np.repeat(np.arange(len(texts)), [len(text) for text in plain])
    size = max(0, len(letters) - CHARACTERS + 1)
    grams = np.zeros(size, np.uint64)
    for place in range(CHARACTERS):
        grams = (grams ^ letters[place : place + size]) * np.uint64(_LETTER)
    inside = of_letter[:size] == of_letter[len(letters) - size :] if size else np.zeros(0, bool)
    both = of_word[:-1] == of_word[1:]
    columns = np.concatenate([_column(hashes), _column(_pairs(hashes)[both]), _column(grams[inside])])
    rows = np.concatenate([of_word, of_word[:-1][both], of_letter[:size][inside]])
    cells, counts = np.unique(rows * COLUMNS + columns, return_counts=True)
    return csr_matrix((counts.astype(np.float64), (cells // COLUMNS, cells % COLUMNS)), shape=(len(texts), COLUMNS))


def _hash(word: str) -> int:
    return int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _pairs(hashes: "NDArray[np.uint64]") -> "NDArray[np.uint64]":
    import numpy as np

    return (hashes[:-1] * np.uint64(_SECOND)) ^ hashes[1:]


def _column(hashes: "NDArray[np.uint64]") -> "NDArray[np.int64]":
    import numpy as np

    return ((hashes * np.uint64(_MIX)) >> np.uint64(64 - BITS)).astype(np.int64)


def _row_of(matrix: Any) -> "NDArray[np.int64]":
    import numpy as np

    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
