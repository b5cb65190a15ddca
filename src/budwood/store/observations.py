"""What servers say that they serve: the observed state, beside the desired one that aliases hold.

`observed` keeps the newest word of each server; `observations` keeps every change, so that "what answered at 14:00" is
answered by those who answered.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select

from budwood.errors import StoreError
from budwood.identity import Digest
from budwood.store.catalog import Catalog
from budwood.store.history import iso
from budwood.store.index import upsert
from budwood.store.ledger import Clock
from budwood.store.names import check_alias, check_digest, check_name
from budwood.store.rows import SILENCE_S, Observation, ObservedRow, ServerRow
from budwood.store.schema import observations, observed, servers

GONE_S = 24 * 3600.0
"""After so long it is dropped from the records; its past stays."""


class Observations:
    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock

    def beat(self, server_id: str) -> None:
        """Note that a server is there, serving or not; servers that died long ago are taken off."""
        _check_server(server_id)
        now = self._clock()
        with self._catalog.write() as connection:
            _seen(connection, server_id, iso(now))
            longest = iso(now - timedelta(seconds=GONE_S))
            for row in connection.execute(select(servers).where(servers.c.seen < longest)).all():
                _forget(connection, row.server_id, row.seen)

    def servers(self) -> list[ServerRow]:
        """Every server that has not taken itself off and was heard of within a day, by its id."""
        now = self._clock()
        limit, longest = (iso(now - timedelta(seconds=seconds)) for seconds in (SILENCE_S, GONE_S))
        query = select(servers).where(servers.c.seen >= longest).order_by(servers.c.server_id)
        with self._catalog.read() as connection:
            found = connection.execute(query).all()
        return [ServerRow(row.server_id, row.since, row.seen, row.seen >= limit) for row in found]

    def put(self, server_id: str, found: Sequence[Observation]) -> None:
        """Write what a server reports; a change of release or health is also kept for good."""
        _check_server(server_id)
        now = iso(self._clock())
        with self._catalog.write() as connection:
            _seen(connection, server_id, now)
            for one in found:
                key = {"server_id": server_id, "name": check_name(one.name), "alias": check_alias(one.alias)}
                state = {"digest": check_digest(one.digest), "ok": one.ok}
                before = connection.execute(select(observed).filter_by(**key)).one_or_none()
                changed = before is None or (before.digest, before.ok) != (one.digest, one.ok)
                since = now if before is None or changed else before.since
                upsert(connection, observed, key, {**state, "detail": one.detail, "since": since, "seen": now})
                if changed:
                    connection.execute(insert(observations).values({**key, **state, "at": now}))

    def rows(self, name: str | None, alias: str | None) -> list[ObservedRow]:
        query = select(observed).order_by(observed.c.name, observed.c.alias, observed.c.server_id)
        if name is not None:
            query = query.where(observed.c.name == name)
        if alias is not None:
            query = query.where(observed.c.alias == alias)
        with self._catalog.read() as connection:
            return [ObservedRow(**row._mapping) for row in connection.execute(query)]

    def forget(self, server_id: str) -> None:
        """Drop a server that stopped; its past changes stay, closed by one that says that it serves nothing."""
        with self._catalog.write() as connection:
            _forget(connection, server_id, iso(self._clock()))

    def at(self, name: str, alias: str, when: datetime) -> dict[str, Digest]:
        """What each server answered from at a moment: server → release.

        A server that refuses a new release goes on answering from the one before; one that reports its own release as not
        healthy, has stopped, or was not heard of for longer than a living one may be silent, is left out.
        """
        table = observations.c
        query = select(observations).where(table.name == name, table.alias == alias).order_by(table.id)
        found: dict[str, Digest] = {}
        with self._catalog.read() as connection:
            last_seen = {row.server_id: datetime.fromisoformat(row.seen) for row in connection.execute(select(servers))}
            for row in connection.execute(query):
                if datetime.fromisoformat(row.at) > when:
                    continue
                if row.digest and row.ok:
                    found[row.server_id] = Digest(row.digest)
                elif row.digest in (None, found.get(row.server_id)):
                    found.pop(row.server_id, None)
        silent = {server for server, seen in last_seen.items() if when > seen + timedelta(seconds=SILENCE_S)}
        return {server: digest for server, digest in found.items() if server not in silent}


def _check_server(server_id: str) -> None:
    if not server_id or len(server_id) > 128:
        raise StoreError("A server id has 1 to 128 characters.", mend="Start the server with another id.")


def _seen(connection: Connection, server_id: str, now: str) -> None:
    known = connection.execute(select(servers.c.since).filter_by(server_id=server_id)).scalar()
    upsert(connection, servers, {"server_id": server_id}, {"since": known or now, "seen": now})


def _forget(connection: Connection, server_id: str, at: str) -> None:
    mine = observed.c.server_id == server_id
    for row in connection.execute(select(observed).where(mine)).all():
        closing = {"server_id": server_id, "name": row.name, "alias": row.alias, "digest": None, "ok": False}
        connection.execute(insert(observations).values({**closing, "at": at}))
    connection.execute(delete(observed).where(mine))
    connection.execute(delete(servers).where(servers.c.server_id == server_id))
