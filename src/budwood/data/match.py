"""Which row of one snapshot is which row of another.

    pairs = match(before, after)
    before.place[pairs.before] != after.place[pairs.after]

In this order, each row once: the same id (same bytes of the file, same line); the same text (the file grew, moved or was
written anew); the same prompt in a file of that name (its answer was corrected). Of several that are alike, the first is
paired with the first, the second with the second; kept rows come before rejected ones.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from budwood.data.columns import Columns

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Indices = NDArray[numpy.int64]


@dataclass(frozen=True)
class Pairs:
    """Row `before[i]` of the one is row `after[i]` of the other; `removed` and `added` have no counterpart. All ascend."""

    before: "Indices"
    after: "Indices"
    removed: "Indices"
    added: "Indices"


def match(before: Columns, after: Columns) -> Pairs:
    """Pair the rows of two snapshots.

    Cost: sorts three times what is left to pair; memory some 80 bytes a row at the highest.
    """
    import numpy

    left, right = numpy.arange(len(before)), numpy.arange(len(after))
    found: list[tuple[Indices, Indices]] = []
    for keys in (_ids, _texts, _prompts):
        here, there = _meet(keys(before)[left], keys(after)[right])
        found.append((left[here], right[there]))
        left, right = numpy.delete(left, here), numpy.delete(right, there)
    ones, others = (numpy.concatenate(side) for side in zip(*found, strict=True))
    order = numpy.argsort(ones, kind="stable")
    return Pairs(ones[order], others[order], left, right)


def _ids(columns: Columns) -> "NDArray[numpy.uint64]":
    return columns.row_id


def _texts(columns: Columns) -> "NDArray[numpy.uint64]":
    return columns.said


def _prompts(columns: Columns) -> "NDArray[numpy.uint64]":
    import numpy

    # An odd factor keeps files apart and the hash as even as it was.
    return columns.asked ^ (columns.source.astype(numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15))


def _meet(ones: "NDArray[Any]", others: "NDArray[Any]") -> "tuple[Indices, Indices]":
    """Pair equal keys, the n-th of a key here with the n-th there; gives positions."""
    import numpy

    order_1, order_2 = numpy.argsort(ones, kind="stable"), numpy.argsort(others, kind="stable")
    keys_1, first_1, count_1 = numpy.unique(ones[order_1], return_index=True, return_counts=True)
    keys_2, first_2, count_2 = numpy.unique(others[order_2], return_index=True, return_counts=True)
    _, at_1, at_2 = numpy.intersect1d(keys_1, keys_2, assume_unique=True, return_indices=True)
    shared = numpy.minimum(count_1[at_1], count_2[at_2])
    within = numpy.arange(shared.sum()) - numpy.repeat(numpy.cumsum(shared) - shared, shared)
    return order_1[numpy.repeat(first_1[at_1], shared) + within], order_2[numpy.repeat(first_2[at_2], shared) + within]
