"""What every part of a store's face stands on: its folder, its parts, and the gate."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from budwood.store.durable import storing
from budwood.store.leases import gate
from budwood.store.parts import Parts, Settings


class Room:
    """An open store, without its doors."""

    def __init__(self, settings: Settings) -> None:
        self.root = settings.root
        self.read_only = settings.read_only
        self._parts = Parts(settings)
        self._clock = settings.clock
        self._tmp = self._parts.tmp
        self._objects = self._parts.objects
        self._attestations = self._parts.attestations

    def close(self) -> None:
        """Give back connections and the lease; the store opens again when it is used."""
        self._parts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _at_gate(self, what: str, *, alone: bool) -> Iterator[None]:
        """Pass the gate: with others to let a name point to an object, alone to take objects out."""
        self._parts.check_writable(what)
        # Both pass the gate themselves when they are made, so that comes before it is shut.
        _ = self._parts.lease, self._parts.ledger
        with self._parts.writing(what), gate(self._tmp, exclusive=alone):
            yield

    @contextmanager
    def _at_rest(self) -> Iterator[None]:
        """A time in which nobody takes bytes out; a read-only store has no such people to wait for, or cannot."""
        if self.read_only:
            yield
            return
        _ = self._parts.ledger
        with storing("a lock", self.root), gate(self._tmp, exclusive=False):
            yield
