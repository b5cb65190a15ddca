"""Whether production still resembles what a release was judged on: newest finding by release, changes in the history.

A finding changes nothing but this: a verdict on data that production has left behind is marked stale, and may be fresh again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from budwood.identity import Digest
from budwood.store.catalog import Catalog
from budwood.store.history import HistoryEvent, iso
from budwood.store.index import upsert
from budwood.store.ledger import Clock, Ledger
from budwood.store.names import check_digest
from budwood.store.schema import drifts

STALE, FRESH = "verdict_stale", "verdict_fresh"
"""Kinds of events: production has left the held-out set behind; it has come back."""


@dataclass(frozen=True)
class DriftRow:
    """The newest finding about a release, in a sentence; `seq` is the event of its last change, 0: there was none."""

    digest: Digest
    stale: bool
    says: str
    seq: int
    at: str


class Drifts:
    def __init__(self, catalog: Catalog, ledger: Ledger, clock: Clock) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._clock = clock

    def rows(self) -> dict[Digest, DriftRow]:
        with self._catalog.read() as connection:
            found = connection.execute(select(drifts)).all()
        return {Digest(row.digest): DriftRow(**row._mapping) for row in found}

    def put(
        self, name: str, alias: str, digest: str, *, stale: bool, says: str, detail: Mapping[str, Any], who: str
    ) -> HistoryEvent | None:
        """Keep a finding; it becomes an event when it is another one than before, and that event is returned."""
        key = {"digest": check_digest(digest)}
        with self._ledger.transaction() as entry:
            before = entry.connection.execute(select(drifts).filter_by(**key)).one_or_none()
            event = None
            if stale != (before is not None and before.stale):
                kind = STALE if stale else FRESH
                told = HistoryEvent(0, "", kind, who, name, alias, to=Digest(digest), reason=says, detail=dict(detail))
                event = entry.append(told)
            seq = event.seq if event else before.seq if before else 0
            upsert(entry.connection, drifts, key, {"stale": stale, "says": says, "seq": seq, "at": iso(self._clock())})
        return event
