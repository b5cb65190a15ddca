"""What must lie in one split: groups, by union-find.

groups = Groups(3)
groups.join(0, 2)
list(groups.members())    # [[0, 2], [1]]
"""

from array import array
from collections.abc import Iterator
from itertools import pairwise


class Groups:
    """Disjoint sets of 0..n−1. Each is known by its smallest member.

    `parent` may be joined in by others that keep to this (`budwood.text.near.search`): eight bytes a member.
    """

    def __init__(self, size: int) -> None:
        self.parent = array("q", range(size))

    def of(self, member: int) -> int:
        """Find the smallest member of a group; near constant time."""
        parent = self.parent
        root = member
        while parent[root] != root:
            root = parent[root]
        while parent[member] != root:
            parent[member], member = root, parent[member]
        return root

    def join(self, first: int, second: int) -> None:
        low, high = sorted((self.of(first), self.of(second)))
        self.parent[high] = low

    def members(self) -> Iterator[list[int]]:
        """List the groups in order of their smallest member, each ascending."""
        import numpy

        roots = numpy.array(self.parent)
        while (roots != (above := roots[roots])).any():
            roots = above
        order = numpy.argsort(roots, kind="stable")
        bounds = [*numpy.flatnonzero(numpy.diff(roots[order], prepend=-1)), len(order)]
        for start, stop in pairwise(bounds):
            yield order[start:stop].tolist()
