"""Novelty: how unlike a row is to the most alike of the rows before it.

1 minus the largest Jaccard similarity of its word pairs with those of an earlier row of the split: 1 for a row that shares no
pair with any, 0 for one whose pairs an earlier row has too, and no others. The first of a family of rows is new, the later
ones are not. As a filter for instructions: Self-Instruct (arXiv:2212.10560), there by ROUGE-L against the pool.

Every pair of rows that shares anything is counted, nothing is estimated: a product of sparse matrices gives how many word
pairs rows share. Held to a loop over `text.similarity.jaccard` by tests/data/test_scores.py.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

    from budwood.data.scores.words import WordPairs

BLOCK = 512
"""Rows that are compared with all earlier ones at once."""


def novelty(rows: "WordPairs", *, tick: Callable[[int], None] = lambda done: None) -> "NDArray[float64]":
    """Give the novelty of each row, (N,); NaN for rows without a word.

    Cost: for every pair of words, the square of how many rows hold it; so four times as long for twice the rows.
    """
    import numpy
    from scipy.sparse import csr_array

    sizes = numpy.diff(rows.starts)
    table = csr_array((numpy.ones(len(rows.pairs), numpy.int32), rows.pairs, rows.starts), shape=(len(rows), rows.kinds))
    found = numpy.where(sizes > 0, 1.0, numpy.nan)
    for start in range(0, len(rows), BLOCK):
        stop = min(start + BLOCK, len(rows))
        shared = table[start:stop] @ table[:stop].T
        row = numpy.repeat(numpy.arange(start, stop), numpy.diff(shared.indptr))
        alike = shared.data / (sizes[row] + sizes[shared.indices] - shared.data)
        alike[shared.indices >= row] = 0.0
        some = numpy.flatnonzero(numpy.diff(shared.indptr))
        if len(some):
            found[start + some] = 1.0 - numpy.maximum.reduceat(alike, shared.indptr[some])
        tick(stop)
    return found
