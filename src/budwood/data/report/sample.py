"""A sample without chance: the rows with the smallest keys. Row ids are digests, so it is as good as drawn."""

import heapq
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Sample(Generic[T]):
    """At most `most` values; which ones depends on the keys alone, not on their order."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.seen = 0
        self._heap: list[tuple[int, int, T]] = []

    def offer(self, key: str, value: Callable[[], T]) -> None:
        """Take a value in when its key (hexadecimal) is among the smallest; it is made only then."""
        self.seen += 1
        place = -int(key[:16], 16)
        if len(self._heap) < self.most:
            heapq.heappush(self._heap, (place, self.seen, value()))
        elif place > self._heap[0][0]:
            heapq.heapreplace(self._heap, (place, self.seen, value()))

    def __iter__(self) -> Iterator[T]:
        """Go through the values by key."""
        return (value for _, _, value in sorted(self._heap, key=lambda entry: (-entry[0], entry[1])))

    def __len__(self) -> int:
        return len(self._heap)
