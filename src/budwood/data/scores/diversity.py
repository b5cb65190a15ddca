"""Diversity: rows one after the other, each time the one that adds most to what the chosen ones cover.

A row spreads one unit of mass evenly over its word pairs. A set of rows covers the sum over pairs of log(1 + mass on it): the
first rows with a pair bring much, later ones less and less. The logarithm, unlike a square root, gives a lone row between
0.69 and 1 whatever its length, so that long rows are not taken for being long. A row's score is what it adds when its turn
comes.

The function is monotone and submodular, so the greedy order is within 1 − 1/e of the best set at every size (Nemhauser,
Wolsey and Fisher 1978); feature-based functions as a measure of text: Kirchhoff and Bilmes, EMNLP 2014. What a row adds only
falls, so rows are looked at again only where their last figure would still win (Minoux 1978): the same order as by looking at
all of them each time, which tests/data/test_scores.py holds it to.
"""

import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import float64, int64
    from numpy.typing import NDArray

    from budwood.data.scores.words import WordPairs

BATCH = 32
"""Rows that are looked at again together."""
DIGITS = 12
"""Decimals in which what two rows add has to differ."""
STEP = 1000
"""Rows between two calls of `tick`."""


def greedy_order(
    rows: "WordPairs", *, tick: Callable[[int], None] = lambda done: None
) -> "tuple[NDArray[int64], NDArray[float64]]":
    """Order all rows; rows without a word are left out.

    Args:
        rows: their word pairs.
        tick: called with the number of rows chosen.

    Returns:
        The rows in the order of choice, and what each added. Among equals the first in the file is taken.

    Cost: N pops of a heap of N, and for each some `BATCH` rows' pairs.
    """
    import numpy

    cover = _Cover(rows)
    present = numpy.flatnonzero(cover.sizes)
    heap = [(-gain, row) for gain, row in zip(cover.gains(present).tolist(), present.tolist(), strict=True)]
    heapq.heapify(heap)
    order = numpy.empty(len(present), numpy.int64)
    added = numpy.empty(len(present))
    for place in range(len(present)):
        gain, row = _next(heap, cover)
        cover.take(row)
        order[place], added[place] = row, gain
        if place % STEP == STEP - 1 or place == len(present) - 1:
            tick(place + 1)
    return order, added


class _Cover:
    """How much mass of the chosen rows lies on each pair."""

    def __init__(self, rows: "WordPairs") -> None:
        import numpy

        self._rows = rows
        self._mass = numpy.zeros(rows.kinds)
        self.sizes = numpy.diff(rows.starts)

    def gains(self, rows: "NDArray[int64]") -> "NDArray[float64]":
        """What each of these rows, none of them empty, would add."""
        import numpy

        sizes = self.sizes[rows]
        ends = numpy.cumsum(sizes)
        places = numpy.arange(ends[-1] if len(ends) else 0) + numpy.repeat(self._rows.starts[rows] - (ends - sizes), sizes)
        mass = self._mass[self._rows.pairs[places]]
        steps = numpy.log1p(numpy.repeat(1.0 / sizes, sizes) / (1.0 + mass))
        # Sums of the same numbers in another order differ in their last digits, which must not tell equal rows apart.
        return numpy.add.reduceat(steps, ends - sizes).round(DIGITS) if len(rows) else steps

    def take(self, row: int) -> None:
        own = self._rows.pairs[self._rows.starts[row] : self._rows.starts[row + 1]]
        self._mass[own] += 1.0 / len(own)


def _next(heap: list[tuple[float, int]], cover: _Cover) -> tuple[float, int]:
    """Take the row that adds most now from a heap of what rows added when they were last looked at."""
    import numpy

    fresh: list[tuple[float, int]] = []
    while heap and (not fresh or heap[0] < fresh[0]):
        stale = [heapq.heappop(heap)[1] for _ in range(min(BATCH, len(heap)))]
        gains = cover.gains(numpy.array(stale))
        for gain, row in zip(gains.tolist(), stale, strict=True):
            heapq.heappush(fresh, (-gain, row))
    lost, best = heapq.heappop(fresh)
    for one in fresh:
        heapq.heappush(heap, one)
    return -lost, best
