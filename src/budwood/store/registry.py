"""Release names and aliases: which release is number 3 of support, and where production points.

The room keeps the pointers right; whether a release *may* be moved to is the release stage's affair.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from budwood.errors import StoreError, UnknownReleaseError
from budwood.identity import Digest, short
from budwood.store.catalog import Catalog
from budwood.store.event_rows import read_events
from budwood.store.history import HistoryEvent
from budwood.store.index import upsert
from budwood.store.ledger import Clock, Ledger
from budwood.store.names import SHORTEST_PREFIX, check_alias, check_digest, check_name, check_prefix
from budwood.store.removals import BEGUN, ENDED, read_removal, unfinished
from budwood.store.rows import AliasRow, Anything, ReleaseRow
from budwood.store.schema import aliases, history, releases

Permit = Callable[[Sequence[HistoryEvent]], Mapping[str, Any]]
"""Decides on a move while nobody else can write: is given the events of the name, raises to refuse, adds to the record."""


class Registry:
    """`check_release` raises when a digest is no whole release object."""

    def __init__(self, catalog: Catalog, ledger: Ledger, clock: Clock, check_release: Callable[[str], None]) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._clock = clock
        self._check_release = check_release

    def add(self, name: str, digest: str, *, who: str, reason: str, version: int | None = None) -> int:
        """Register a release under the next number of its name, or one that it brings; the same one again keeps its number."""
        check_name(name)
        self._check_release(digest)
        with self._ledger.transaction() as entry:
            connection = entry.connection
            mine = releases.c.name == name
            known = connection.execute(select(releases.c.version).where(mine, releases.c.digest == digest)).scalar()
            if known is not None:
                return int(known)
            highest = connection.execute(select(func.max(releases.c.version)).where(mine)).scalar() or 0
            if version is None:
                version = int(highest) + 1
            taken = connection.execute(select(releases.c.digest).where(mine, releases.c.version == version)).scalar()
            if taken is not None:
                raise StoreError(
                    f"{name}@{version} is release {short(taken)}… here, not {short(digest)}…: a number means one release.",
                    mend="Nothing was registered. Import it under another name: --as-name NAME.",
                )
            event = entry.append(
                HistoryEvent(0, "", "released", who, name, to=Digest(digest), reason=reason, detail={"version": version})
            )
            row = {"name": name, "version": version, "digest": digest, "created_at": event.at}
            connection.execute(insert(releases).values(row))
            return version

    def releases(self, name: str | None = None) -> list[ReleaseRow]:
        with self._catalog.read() as connection:
            return release_rows(connection, name)

    def aliases(self, name: str | None = None) -> list[AliasRow]:
        with self._catalog.read() as connection:
            return alias_rows(connection, name)

    def check_known(self, name: str) -> None:
        """Refuse a name that neither a release nor an event has, and say which one is meant."""
        with self._catalog.read() as connection:
            told = connection.execute(select(history.c.name).distinct()).scalars()
            known = {str(word) for word in told if word} | {row.name for row in release_rows(connection)}
        if name not in known:
            raise _unknown(name, known, "release name")

    def find(self, ref: str) -> ReleaseRow:
        """Find a release by name, name@alias, name@number, name@digest or digest; costs the same with one or thousands."""
        name, at, rest = ref.strip().partition("@")
        with self._catalog.read() as connection:
            some = select(releases.c.version).where(releases.c.name == name).limit(1)
            if _is_plain(name) and connection.execute(some).first():
                return _within(connection, name, rest if at else "production")
            digits = name.removesuffix("…")
            if not at and len(digits) >= SHORTEST_PREFIX and set(digits) <= _HEX:
                return _one(ref, _with_prefix(connection, check_prefix(name)))
            known = set(connection.execute(select(releases.c.name).distinct()).scalars())
        raise _unknown(ref, known, "release name")

    def move(
        self,
        name: str,
        alias: str,
        to: str,
        *,
        expect: Digest | Anything | None,
        who: str,
        reason: str,
        verdict: Digest | None,
        kind: str,
        override: bool,
        detail: Mapping[str, Any],
        permit: Permit | None,
    ) -> HistoryEvent:
        """Point an alias at a release, if it is where the mover believes; pointer and event are one transaction."""
        check_name(name)
        check_alias(alias)
        self._check_release(to)
        with self._ledger.transaction() as entry:
            connection = entry.connection
            if not connection.execute(
                select(releases.c.version).where(releases.c.name == name, releases.c.digest == to)
            ).first():
                raise StoreError(
                    f"Release {short(to)}… is not registered under {name}.", mend=f"Read `budwood history {name}`."
                )
            now = self._checked_place(connection, name, alias, expect)
            if now is not None and now.digest == to:
                return entry.event(now.seq)
            _check_stays(connection, check_digest(to))
            permitted = permit(read_events(connection, name)) if permit is not None else {}
            event = entry.append(
                HistoryEvent(
                    0,
                    "",
                    kind,
                    who,
                    name,
                    alias,
                    now.digest if now else None,
                    check_digest(to),
                    "any" if isinstance(expect, Anything) else expect or "none",
                    verdict,
                    reason,
                    override,
                    {**detail, **permitted},
                )
            )
            upsert(connection, aliases, {"name": name, "alias": alias}, {"digest": to, "seq": event.seq})
            return event

    def check_place(self, name: str, alias: str, expect: Digest | None) -> None:
        """Refuse, as `move` would, when an alias is not where it is expected."""
        with self._catalog.read() as connection:
            self._checked_place(connection, name, alias, expect)

    def _checked_place(
        self, connection: Connection, name: str, alias: str, expect: Digest | Anything | None
    ) -> AliasRow | None:
        row = connection.execute(_ALIASES.where(aliases.c.name == name, aliases.c.alias == alias)).one_or_none()
        now = _alias(row) if row is not None else None
        if not isinstance(expect, Anything) and expect != (now.digest if now else None):
            raise self._moved_meanwhile(connection, name, alias, now, expect)
        return now

    def _moved_meanwhile(
        self, connection: Connection, name: str, alias: str, now: AliasRow | None, expect: Digest | None
    ) -> StoreError:
        read = f"Nothing was changed. Read `budwood history {name}`, then repeat"
        expected = f"at {short(expect)}…" if expect else "absent"
        if now is None:
            return StoreError(
                f'Alias "{alias}" of {name} does not exist, it is not {expected} as --expect says.', mend=f"{read}."
            )
        row = connection.execute(select(history.c.at, history.c.who).where(history.c.seq == now.seq)).one()
        return StoreError(
            f'Alias "{alias}" of {name} is at release {short(now.digest)}…, not {expected} as --expect says; '
            f"it moved {_day(row.at, self._clock())} by {row.who}.",
            mend=f"{read} with --expect {short(now.digest)}….",
        )


_HEX = frozenset("0123456789abcdef")
_ALIASES = select(aliases.c.name, aliases.c.alias, aliases.c.digest, aliases.c.seq, releases.c.version).join_from(
    aliases, releases, (aliases.c.name == releases.c.name) & (aliases.c.digest == releases.c.digest)
)


def _within(connection: Connection, name: str, rest: str) -> ReleaseRow:
    """The release of a name that has some, by alias, number or digest."""
    # Servers list a release as name@3-9d02ab41c977; the digest says it all, and the number must agree with it.
    number, dash, tail = rest.partition("-")
    if dash and _is_number(number) and len(tail) >= SHORTEST_PREFIX and set(tail) <= _HEX:
        return _one(f"{name}@{rest}", [r for r in _with_prefix(connection, tail, name) if str(r.version) == number])
    mine = select(releases).where(releases.c.name == name)
    pointed = select(aliases.c.digest).where(aliases.c.name == name, aliases.c.alias == rest).scalar_subquery()
    row = connection.execute(mine.where(releases.c.digest == pointed)).one_or_none() if _is_plain(rest) else None
    if row is not None:
        return _release(row)
    if _is_number(rest) and len(rest) < SHORTEST_PREFIX:
        row = connection.execute(mine.where(releases.c.version == int(rest))).one_or_none()
        if row is not None:
            return _release(row)
        ends = select(func.min(releases.c.version), func.max(releases.c.version)).where(releases.c.name == name)
        first, last = connection.execute(ends).one()
        raise UnknownReleaseError(
            f"{name} has no release number {rest}; its numbers are {first} to {last}.",
            mend=f"Read `budwood history {name}`.",
        )
    digits = rest.removesuffix("…")
    if len(digits) >= SHORTEST_PREFIX and set(digits) <= _HEX:
        return _one(f"{name}@{rest}", _with_prefix(connection, check_prefix(digits), name))
    raise _unknown(f"{name}@{rest}", {row.alias for row in alias_rows(connection, name)}, "alias")


def _is_plain(word: str) -> bool:
    """Whether a database takes it as a text: it comes from strangers, and no name or alias is anything else."""
    return word.isascii() and word.isprintable()


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit()


def _with_prefix(connection: Connection, prefix: str, name: str | None = None) -> list[ReleaseRow]:
    """Releases whose digest begins so. As a range, which an index serves; "g" comes after every digit of a digest."""
    query = select(releases).where(releases.c.digest >= prefix, releases.c.digest < f"{prefix}g")
    if name is not None:
        query = query.where(releases.c.name == name)
    return [_release(row) for row in connection.execute(query.order_by(releases.c.name, releases.c.version))]


def release_rows(connection: Connection, name: str | None = None) -> list[ReleaseRow]:
    query = select(releases).order_by(releases.c.name, releases.c.version)
    if name is not None:
        query = query.where(releases.c.name == name)
    return [_release(row) for row in connection.execute(query)]


def alias_rows(connection: Connection, name: str | None = None) -> list[AliasRow]:
    query = _ALIASES.order_by(aliases.c.name, aliases.c.alias)
    if name is not None:
        query = query.where(aliases.c.name == name)
    return [_alias(row) for row in connection.execute(query)]


def _check_stays(connection: Connection, to: Digest) -> None:
    """Refuse what a removal that was cut short is about to take away: whoever finishes it would take it from under servers."""
    for begun in unfinished(read_events(connection, kinds=(BEGUN, ENDED))):
        if to in read_removal(begun).objects:
            raise StoreError(
                f"Release {short(to)}… is being removed, since event {begun.seq} by {begun.who}: {begun.reason}",
                mend="Nothing was changed. Choose another release; `budwood gc` finishes that removal.",
            )


def _release(row: Row[*tuple[Any, ...]]) -> ReleaseRow:
    return ReleaseRow(row.name, row.version, Digest(row.digest), row.created_at)


def _alias(row: Row[*tuple[Any, ...]]) -> AliasRow:
    return AliasRow(row.name, row.alias, Digest(row.digest), row.version, row.seq)


def _one(ref: str, found: Iterable[ReleaseRow]) -> ReleaseRow:
    rows = {row.digest: row for row in found}
    if len(rows) == 1:
        return next(iter(rows.values()))
    if rows:
        listed = ", ".join(f"{row.name}@{row.version} {short(row.digest)}…" for row in rows.values())
        raise UnknownReleaseError(f'"{ref}" fits {len(rows)} releases: {listed}.', mend="Give more digits.")
    raise UnknownReleaseError(f'No release begins with "{ref}".', mend="Read `budwood history`.")


def _unknown(ref: str, known: set[str], what: str) -> UnknownReleaseError:
    wrong = ref.partition("@")[2] if what == "alias" else ref.partition("@")[0]
    near = difflib.get_close_matches(wrong, sorted(known), n=1, cutoff=0.5)
    if near:
        hint = f"Nearest: {near[0]}."
    else:
        hint = f"There is: {', '.join(sorted(known))}." if known else "There is none yet: make one with `budwood run`."
    said = f'No release "{ref}": unknown {what} "{wrong}". {hint}'
    return UnknownReleaseError(said, mend="Correct it, or read `budwood history`.")


def _day(at: str, now: datetime) -> str:
    moment = datetime.fromisoformat(at).astimezone(UTC)
    day = "today" if moment.date() == now.astimezone(UTC).date() else f"on {moment:%Y-%m-%d}"
    return f"{day} at {moment:%H:%M} UTC"
