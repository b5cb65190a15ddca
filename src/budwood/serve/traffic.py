"""What became of the requests of the aliases on which something is tried: counts of the last minutes, by release."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from budwood.identity import Digest
from budwood.stats.outcomes import Outcomes

SLICES = 20
"""A window is counted in so many slices; the oldest is dropped as a whole."""
Alias = tuple[str, str]


class Traffic:
    """Counts for as long as an alias is watched. Every method may be called from any thread.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[Alias, float] = {}
        self._counts: dict[tuple[Alias, Digest], deque[tuple[int, Outcomes]]] = {}

    def watch(self, windows: Mapping[Alias, float]) -> None:
        """Count these aliases from now on, each in a window of so many seconds, and forget all others."""
        with self._lock:
            kept = {alias for alias, window_s in windows.items() if self._windows.get(alias) == window_s}
            self._counts = {key: counts for key, counts in self._counts.items() if key[0] in kept}
            self._windows = dict(windows)

    def is_watched(self, alias: Alias) -> bool:
        return alias in self._windows

    def note(self, alias: Alias, digest: Digest, outcome: Outcomes) -> None:
        """Count what became of a request, if its alias is watched."""
        with self._lock:
            if alias not in self._windows:
                return
            number = self._slice(alias)
            counts = self._counts.setdefault((alias, digest), deque(maxlen=SLICES + 1))
            if counts and counts[-1][0] == number:
                counts[-1] = (number, counts[-1][1] + outcome)
            else:
                counts.append((number, outcome))

    def counts(self, alias: Alias, digest: Digest) -> Outcomes:
        """What was counted within the window."""
        with self._lock:
            if alias not in self._windows:
                return Outcomes()
            oldest = self._slice(alias) - SLICES
            kept = [outcome for number, outcome in self._counts.get((alias, digest), ()) if number > oldest]
        return sum(kept, Outcomes())

    def _slice(self, alias: Alias) -> int:
        return int(self._clock() / self._windows[alias] * SLICES)
