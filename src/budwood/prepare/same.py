"""Which rows have the same key, over columns of keys: every row is known by the first one that it equals."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import int64
    from numpy.typing import NDArray


def first_same(keys: "NDArray[Any]") -> "NDArray[int64]":
    """For each row the smallest place of one with the same key; keys are (N, 2), both halves count."""
    import numpy

    order = numpy.argsort(keys[:, 0], kind="stable")
    high, low = keys[order, 0], keys[order, 1]
    same = high[1:] == high[:-1]
    if (same & (low[1:] != low[:-1])).any():
        # Two keys of one first half; in the whole of 2⁶⁴ that is rare.
        order = numpy.lexsort((keys[:, 1], keys[:, 0]))
        high, low = keys[order, 0], keys[order, 1]
        same = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
    return _first_of_runs(order, same)


def first_pair(first: "NDArray[int64]", second: "NDArray[int64]") -> "NDArray[int64]":
    """The same for keys of two parts, each known by its first row already."""
    import numpy

    order = numpy.lexsort((second, first))
    same = (first[order][1:] == first[order][:-1]) & (second[order][1:] == second[order][:-1])
    return _first_of_runs(order, same)


def first_among(ids: "NDArray[int64]", among: "NDArray[Any]") -> "NDArray[int64]":
    """For each id (a place, below N) the first of the rows `among` (a mask) that has it, or N; (N,)."""
    import numpy

    found = numpy.full(len(ids), len(ids), numpy.int64)
    places = numpy.flatnonzero(among)[::-1]
    # Written backwards, so that of several the first one stays.
    found[ids[places]] = places
    return found


def _first_of_runs(order: "NDArray[int64]", same: "NDArray[Any]") -> "NDArray[int64]":
    import numpy

    starts = numpy.flatnonzero(numpy.concatenate([[True], ~same])) if len(order) else numpy.empty(0, numpy.int64)
    sizes = numpy.diff(starts, append=len(order))
    first = numpy.empty(len(order), numpy.int64)
    # Both orders are stable: a run begins with its smallest place.
    first[order] = numpy.repeat(order[starts], sizes)
    return first
