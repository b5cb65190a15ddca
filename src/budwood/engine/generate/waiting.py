"""Requests that wait for a place: those of one adapter in order, adapters in turn by the tokens that they were given.

A crowd at one adapter does not keep another's request waiting: each adapter has a clock that moves on by the tokens (prompt and
most that may be made) of each request that leaves the queue, and the adapter whose clock is furthest behind is next. One that
had nothing waiting begins where the clock of the request that left last stood: it has no credit from idle times.

Source: start-time fair queueing (Goyal et al., 1996).
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items by key, fair between keys.

    Args:
        key: whose an item is.
        cost: by which its key's clock moves when it leaves.
    """

    def __init__(self, key: Callable[[T], int], cost: Callable[[T], int]) -> None:
        self._key = key
        self._cost = cost
        self._urgent: deque[T] = deque()
        self._lines: dict[int, deque[T]] = {}
        self._clocks: dict[int, int] = {}
        self._now = 0

    def add(self, item: T, *, urgent: bool = False) -> None:
        """Put an item at the end of its key's line, or before all lines if urgent; urgent ones keep their order."""
        if urgent:
            self._urgent.append(item)
            return
        key = self._key(item)
        if key not in self._lines:
            self._lines[key] = deque()
            self._clocks[key] = max(self._now, self._clocks.get(key, 0))
        self._lines[key].append(item)

    @property
    def urgent(self) -> T | None:
        """The urgent item that is next."""
        return self._urgent[0] if self._urgent else None

    @property
    def ordinary(self) -> T | None:
        """The item that is next if there is no urgent one."""
        key = min(self._lines, key=lambda one: (self._clocks[one], one), default=None)
        return None if key is None else self._lines[key][0]

    def take(self, item: T) -> None:
        """Take out an item that is next."""
        if self._urgent and self._urgent[0] is item:
            self._urgent.popleft()
            return
        key = self._key(item)
        self._now = self._clocks[key]
        self._clocks[key] += self._cost(item)
        self.remove(item)
        # A clock that is behind says nothing of a key that has nothing waiting.
        self._clocks = {one: clock for one, clock in self._clocks.items() if one in self._lines or clock > self._now}

    def remove(self, item: T) -> None:
        """Take out any item; it counts for nothing."""
        if item in self._urgent:
            self._urgent.remove(item)
            return
        key = self._key(item)
        self._lines[key].remove(item)
        if not self._lines[key]:
            del self._lines[key]

    def __iter__(self) -> Iterator[T]:
        yield from self._urgent
        for line in self._lines.values():
            yield from line

    def __len__(self) -> int:
        return len(self._urgent) + sum(map(len, self._lines.values()))
