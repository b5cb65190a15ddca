"""What must lie in one split: groups, as the forest that the search for near-duplicates joins in.

`parent` has an entry of 64 bits a row: the row itself, or one further up; the smallest member is a group's root.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import int64
    from numpy.typing import NDArray


def roots(parent: "NDArray[int64]") -> "NDArray[int64]":
    """The smallest member of each row's group."""
    above = parent[parent]
    while (above != parent).any():
        parent, above = above, above[above]
    return above


def join_same(parent: "NDArray[int64]", rows: "NDArray[int64]", first: "NDArray[int64]") -> "NDArray[int64]":
    """Join each of some rows with the one that it belongs to, `first`; gives the roots."""
    import numpy
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(parent)
    ends = numpy.concatenate([parent, first]), numpy.concatenate([numpy.arange(count), rows])
    ties = coo_array((numpy.ones(count + len(rows), numpy.bool_), ends), shape=(count, count))
    _, label = connected_components(ties, directed=False)
    smallest = numpy.full(count, count, numpy.int64)
    numpy.minimum.at(smallest, label, numpy.arange(count))
    joined: NDArray[int64] = smallest[label]
    return joined
