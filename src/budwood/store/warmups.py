"""Releases that servers are asked to have ready, before an alias moves to them.

Asking changes nothing that anybody sees and is no event of the history: a server loads the release, proves it, keeps it until
the time that was asked for, and says so. Whoever moves an alias asks first and waits for the answers; then all servers follow
the move at once, however long their loads took.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, select

from budwood.identity import Digest
from budwood.store.catalog import Catalog
from budwood.store.history import iso
from budwood.store.index import upsert
from budwood.store.ledger import Clock
from budwood.store.names import check_digest, check_name
from budwood.store.schema import warm_reports, warmups


@dataclass(frozen=True)
class Warmup:
    """A release of a name that is to be ready; `until` tells one asking from the next."""

    name: str
    digest: Digest
    until: str


@dataclass(frozen=True)
class Warmed:
    """What a server says of one: it is ready, or why it will not be."""

    server_id: str
    ok: bool
    detail: str


class Warmups:
    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock

    def ask(self, name: str, digest: str, *, lasts_s: float) -> None:
        """Ask all servers to have a release ready for so many seconds; what was said of it before is forgotten."""
        now = self._clock()
        key = {"name": check_name(name), "digest": check_digest(digest)}
        with self._catalog.write() as connection:
            connection.execute(delete(warmups).where(warmups.c.until < iso(now)))
            # Also of what was ended: a server may have said its word after that.
            over = warm_reports.c.digest.not_in(select(warmups.c.digest))
            connection.execute(delete(warm_reports).where(over | (warm_reports.c.digest == digest)))
            upsert(connection, warmups, key, {"until": iso(now + timedelta(seconds=lasts_s))})

    def end(self, name: str, digest: str) -> None:
        """Ask for it no longer: the alias has moved, or will not."""
        with self._catalog.write() as connection:
            connection.execute(delete(warmups).where(warmups.c.name == name, warmups.c.digest == digest))

    def rows(self) -> list[Warmup]:
        """What is to be ready now."""
        query = select(warmups).where(warmups.c.until >= iso(self._clock())).order_by(warmups.c.name, warmups.c.digest)
        with self._catalog.read() as connection:
            return [Warmup(row.name, Digest(row.digest), row.until) for row in connection.execute(query)]

    def report(self, server_id: str, digest: str, ok: bool, detail: str) -> None:
        """Say that a server has a release ready, or why it has not."""
        with self._catalog.write() as connection:
            upsert(connection, warm_reports, {"server_id": server_id, "digest": digest}, {"ok": ok, "detail": detail})

    def reports(self, digest: str) -> Sequence[Warmed]:
        """What servers have said since it was asked for."""
        query = select(warm_reports).where(warm_reports.c.digest == digest).order_by(warm_reports.c.server_id)
        with self._catalog.read() as connection:
            return [Warmed(row.server_id, row.ok, row.detail) for row in connection.execute(query)]
