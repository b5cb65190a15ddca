"""Which vectors are alike: every pair by its cosine, block by block, so that N² cosines are computed and never held.

    found = find_alike(read, terms, threshold, parent, tick)

The terms are those of the search for near-duplicates: each row is compared with those before it, one that goes is not compared
with again, and what is alike lies in one group. Exact: no index, nothing sampled. Held to plain loops by
tests/prepare/test_semantic.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from budwood.text.near.search import Terms

if TYPE_CHECKING:
    from numpy import float32, float64, int64
    from numpy.typing import NDArray
    from torch import Tensor

ASKING = 1024
"""Rows that are compared at once with `OFFERED` others: 16 MiB of cosines."""
OFFERED = 4096


@dataclass(frozen=True)
class Alike:
    """What was found.

    Args:
        twin: the first row before that a row repeats, or −1, (N,).
        alike: their cosine, (N,).
        nearest: cosine of each row with the nearest one before it that stays; −1 for the first, (N,).
    """

    twin: "NDArray[int64]"
    alike: "NDArray[float64]"
    nearest: "NDArray[float32]"


def find_alike(
    read: "Callable[[int, int], NDArray[float32]]",
    terms: Terms,
    threshold: float,
    parent: "NDArray[int64]",
    *,
    device: str = "cpu",
    tick: Callable[[int], None] = lambda done: None,
) -> Alike:
    """Compare rows with those before them.

    Args:
        read: unit vectors of rows start..stop, (stop − start, d).
        terms: who may repeat whom; see `text.near.search`.
        threshold: cosine from which on two are alike.
        parent: of each member of the groups: a forest whose roots are smallest members.
        device: where to multiply.
        tick: called with the number of rows compared.
    """
    import torch

    search = _Search(terms, threshold, parent)
    rows = len(terms.member)
    for start in range(0, rows, ASKING):
        stop = min(start + ASKING, rows)
        asking = torch.from_numpy(read(start, stop)).to(device)
        for first in range(0, start, OFFERED):
            last = min(first + OFFERED, start)
            offered = torch.from_numpy(read(first, last)).to(device)
            search.meet(start, first, (asking @ offered.T).cpu())
        search.close(start, (asking @ asking.T).cpu())
        tick(stop)
    return Alike(search.twin, search.alike, search.nearest)


class _Search:
    def __init__(self, terms: Terms, threshold: float, parent: "NDArray[int64]") -> None:
        import numpy

        rows = len(terms.member)
        self._terms, self._threshold, self._parent = terms, threshold, parent
        self._gone = numpy.zeros(rows, numpy.bool_)
        self.twin = numpy.full(rows, -1, numpy.int64)
        self.alike = numpy.zeros(rows, numpy.float64)
        self.nearest = numpy.full(rows, -1, numpy.float32)

    def meet(self, start: int, first: int, cosines: "Tensor") -> None:
        """Compare a block with rows that all come before it: row start + i with first + j is `cosines[i, j]`."""
        import numpy

        stop = start + len(cosines)
        cosines[:, self._gone[first : first + cosines.shape[1]]] = -1
        numpy.maximum(self.nearest[start:stop], cosines.amax(1).numpy(), out=self.nearest[start:stop])
        hits = (cosines >= self._threshold).nonzero()
        if not len(hits):
            return
        rows, others = start + hits[:, 0].numpy(), first + hits[:, 1].numpy()
        found = cosines[hits[:, 0], hits[:, 1]].numpy()
        eligible = numpy.flatnonzero((self.twin[rows] < 0) & self._may_repeat(rows, others))
        asks, at = numpy.unique(rows[eligible], return_index=True)
        chosen = eligible[at]
        self.twin[asks], self.alike[asks] = others[chosen], found[chosen]
        self._join(rows, others)

    def close(self, start: int, cosines: "Tensor") -> None:
        """Compare the rows of a block with those before them in it; what the block's rows come to is settled then."""
        import numpy
        import torch

        stop = start + len(cosines)
        self._gone[start:stop] = (self.twin[start:stop] >= 0) & (self._terms.goes[start:stop] > 0)
        before = torch.ones_like(cosines, dtype=torch.bool).tril(-1)
        hits = ((cosines >= self._threshold) & before).nonzero().numpy()
        edges = numpy.searchsorted(hits[:, 0], numpy.arange(len(cosines) + 1))
        for row in numpy.unique(hits[:, 0]).tolist():
            places = hits[edges[row] : edges[row + 1], 1]
            places = places[~self._gone[start + places]]
            self._settle(start + row, start + places, cosines[row][places].numpy())
        cosines[:, self._gone[start:stop]] = -1
        near = torch.where(before, cosines, -1.0).amax(1).numpy()
        numpy.maximum(self.nearest[start:stop], near, out=self.nearest[start:stop])

    def _settle(self, row: int, others: "NDArray[int64]", cosines: "NDArray[float32]") -> None:
        import numpy

        rows = numpy.full(len(others), row)
        if self.twin[row] < 0:
            places = numpy.flatnonzero(self._may_repeat(rows, others))
            if len(places):
                self.twin[row], self.alike[row] = others[places[0]], cosines[places[0]]
                self._gone[row] = bool(self._terms.goes[row])
        self._join(rows, others)

    def _may_repeat(self, rows: "NDArray[int64]", others: "NDArray[int64]") -> "NDArray[int64]":
        terms = self._terms
        same: NDArray[int64] = (terms.asks[rows] & terms.offers[others] > 0) & (
            terms.meaning[rows] == terms.meaning[others]
        ).all(axis=1)
        return same

    def _join(self, rows: "NDArray[int64]", others: "NDArray[int64]") -> None:
        import numpy

        mine, theirs = self._roots(rows), self._roots(others)
        apart = mine != theirs
        for one, other in numpy.unique(numpy.stack([mine[apart], theirs[apart]], 1), axis=0).tolist():
            one, other = self._root(one), self._root(other)
            self._parent[max(one, other)] = min(one, other)

    def _roots(self, rows: "NDArray[int64]") -> "NDArray[int64]":
        found = self._parent[self._terms.member[rows]]
        while ((above := self._parent[found]) != found).any():
            found = above
        return found

    def _root(self, member: int) -> int:
        while (above := int(self._parent[member])) != member:
            member = above
        return member
