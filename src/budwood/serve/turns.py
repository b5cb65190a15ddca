"""A lock for two kinds of work, of which one goes first."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Work that takes turns: whoever comes `first` waits for what is under way and for nothing else.

    A plain lock is no queue: a thread that takes it again and again can keep another waiting for as long as it has work.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken = False
        self._first_waiting = 0

    @contextmanager
    def first(self) -> Iterator[None]:
        """Hold the lock, before all that take it `after`."""
        with self._changed:
            self._first_waiting += 1
            try:
                self._changed.wait_for(lambda: not self._taken)
            finally:
                self._first_waiting -= 1
            self._taken = True
        try:
            yield
        finally:
            self._give_back()

    @contextmanager
    def after(self) -> Iterator[None]:
        """Hold the lock when nobody waits to be first."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken and not self._first_waiting)
            self._taken = True
        try:
            yield
        finally:
            self._give_back()

    def _give_back(self) -> None:
        with self._changed:
            self._taken = False
            self._changed.notify_all()
