"""Rows as sets of word pairs: what diversity and novelty look at.

A row's text is what its messages say, the system's left out, normalised. A word is a run of letters and digits; in Han, Kana
and Hangul, a single character. Two words next to each other are a pair; a row of a single word has that word for a pair. Pairs
are known by 64 bits of a hash: of data sets with 100 million different ones, one in 4,000 has two that are taken for one.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from budwood.text.normalise import normalise

if TYPE_CHECKING:
    from numpy import int32, int64
    from numpy.typing import NDArray

    from budwood.data.rows import KeptRow

_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+")


@dataclass(frozen=True)
class WordPairs:
    """Sets of pairs of N rows, in compressed rows: `pairs[starts[i]:starts[i + 1]]` are those of row i, each once.

    Args:
        pairs: which of the `kinds` pairs that occur.
        starts: (N + 1,).
        kinds: how many different pairs there are.
    """

    pairs: "NDArray[int32]"
    starts: "NDArray[int64]"
    kinds: int

    def __len__(self) -> int:
        return len(self.starts) - 1


def text_of(row: "KeptRow") -> str:
    """What a row says, its system message left out."""
    return "\n".join(message["content"] for message in row.messages if message["role"] != "system")


def pairs_of(text: str) -> set[str]:
    """The pairs of words of a text; empty where it holds no word."""
    words = _WORD.findall(normalise(text))
    return {f"{first} {second}" for first, second in pairwise(words)} or set(words)


def word_pairs(texts: Iterable[str]) -> WordPairs:
    """Read texts into sets of pairs."""
    from array import array

    import numpy

    hashes, starts = array("Q"), array("q", [0])
    for text in texts:
        hashes.extend(_hashed(pairs_of(text)))
        starts.append(len(hashes))
    kinds, pairs = numpy.unique(numpy.frombuffer(hashes, numpy.uint64), return_inverse=True)
    return WordPairs(pairs.astype(numpy.int32), numpy.frombuffer(starts, numpy.int64), len(kinds))


def _hashed(pairs: Iterable[str]) -> Sequence[int]:
    """Not Python's own hash: that one differs from process to process, and with it the order of sums."""
    from hashlib import blake2b

    return sorted(int.from_bytes(blake2b(pair.encode("utf-8", "surrogatepass"), digest_size=8).digest()) for pair in pairs)
