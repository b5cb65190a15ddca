"""What must lie in one split: groups, by union-find.

groups = Groups(3)
groups.join(0, 2)
groups.members()          # [[0, 2], [1]]
"""

from collections import defaultdict


class Groups:
    """Disjoint sets of 0..n−1. Each is known by its smallest member."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def of(self, member: int) -> int:
        """Find the smallest member of a group; near constant time."""
        parent = self._parent
        root = member
        while parent[root] != root:
            root = parent[root]
        while parent[member] != root:
            parent[member], member = root, parent[member]
        return root

    def join(self, first: int, second: int) -> None:
        low, high = sorted((self.of(first), self.of(second)))
        self._parent[high] = low

    def members(self) -> list[list[int]]:
        """List the groups in order of their smallest member, each ascending."""
        groups: dict[int, list[int]] = defaultdict(list)
        for member in range(len(self._parent)):
            groups[self.of(member)].append(member)
        return [groups[root] for root in sorted(groups)]
