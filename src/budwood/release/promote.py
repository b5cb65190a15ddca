"""Moving an alias: promotion on a verdict, rollback to what was live, and waiting until servers have followed.

The move itself is the store's compare-and-swap; here it is decided whether it may be made. Nothing heavy is imported.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from budwood.errors import ReleaseError, StoreError
from budwood.identity import Digest, digest_json, short
from budwood.release.approvals import refusal as approval_refusal
from budwood.release.approvals import standing
from budwood.release.permission import check_reasons, recorded, refusal
from budwood.store import HistoryEvent, ObservedRow, ReleaseRow, ServerRow, Store
from budwood.store.history import MOVES, line_of
from budwood.store.rows import SILENCE_S
from budwood.store.signatures import check_rule

POLL_S = 0.05
WARM_S = 30.0
"""So long after the wait for them servers keep a release ready that an alias is about to move to."""
Hearing = Literal["here", "silent", "lost"]
"""Whether a server is heard of; "silent": not now, but too early to give it up."""


@dataclass(frozen=True)
class ServerState:
    """How far one server has come.

    "follows" · "failed": it refused the release · "waiting": not there yet · "lost": not heard of any more; nobody waits for
    it, and nobody knows what it answers from.
    """

    server_id: str
    state: Literal["follows", "failed", "waiting", "lost"]
    detail: str

    def __str__(self) -> str:
        return f"server {self.server_id}: {self.detail}"


@dataclass(frozen=True)
class Moved:
    """A finished move.

    `before` is None when the alias is new; `servers` says what each known server did, if it was `waited` for them.
    """

    name: str
    alias: str
    version: int
    digest: Digest
    before: Digest | None
    seq: int
    servers: tuple[ServerState, ...]
    waited: bool

    @property
    def followed(self) -> bool:
        """Whether no server was found that does not answer from the release; none is where nobody looked."""
        return followed(self.servers)

    def as_dict(self) -> dict[str, Any]:
        """JSON values; "followed" is null where nobody looked."""
        known = self.followed if self.waited else None
        return asdict(self) | {"servers": [asdict(server) for server in self.servers], "followed": known}


def promote(
    store: Store,
    ref: str,
    alias: str = "production",
    *,
    expect: str | None = None,
    who: str,
    reason: str,
    override: str | None = None,
    without_approvals: str | None = None,
    wait_s: float = 0.0,
    still: Callable[[Sequence[HistoryEvent]], None] | None = None,
) -> Moved:
    """Point an alias at a release.

    Args:
        store: the store.
        ref: name@number, name@digest, name@alias or a digest.
        alias: what to move.
        expect: move only if the alias is at this release now (a reference or digest prefix, "none": not there yet).
        who: person or program.
        reason: why.
        override: reason to go against the verdict; it is recorded.
        without_approvals: reason to do without the approvals that the alias asks for; it is recorded.
        wait_s: how long to wait until every known server has followed; 0: do not look. Servers are asked to have the release
            ready first, and the alias is moved when they have, so that all follow at once; one that refuses it, or takes longer
            than this, holds nothing up.
        still: is given the events of the name when nobody else can write, and raises if the move is no longer wanted.

    Raises:
        ReleaseError: the verdict is not PROMOTE, or was given against another champion than the one that is live, or
            too few people have approved the move.
        StoreError: no such release, the alias moved meanwhile, or a part of the release is gone.
    """
    row = store.find_release(ref)
    body = store.manifest(row.digest).body
    if expect is None:
        now = _now(store, row.name, alias)
    else:
        now = _expected(store, row.name, expect)
        store.check_place(row.name, alias, now)
    _check_parts_present(store, row)
    check_reasons({"--override": override, "--without-approvals": without_approvals})
    refused = None if now == row.digest else refusal(store, row, body, alias, now)
    if refused is not None and override is None:
        raise refused
    lacking = approval_refusal(standing(store.history(row.name), row, alias, now, mover=who), row, alias)
    if now != row.digest and lacking is not None and without_approvals is None:
        raise lacking

    def permit(events: Sequence[HistoryEvent]) -> dict[str, Any]:
        """Once more, now that nobody else can write: an approval may have been taken back meanwhile."""
        if still is not None:
            still(events)
        found = standing(events, row, alias, now, mover=who)
        late = approval_refusal(found, row, alias)
        if late is not None and lacking is None:
            raise late
        return found.as_detail()

    verdict = body.get("verdict")
    with _warmed(store, row, wait_s=0.0 if now == row.digest else wait_s):
        # Servers may have taken minutes: what was there before may have gone, and a signature may be asked for since.
        _check_parts_present(store, row)
        event = store.move_alias(
            row.name,
            alias,
            row.digest,
            # The verdict was checked against this; whoever doesn't say what he expects means it too.
            expect=now,
            who=who,
            reason=recorded(reason, override if refused else None, without_approvals if lacking else None),
            verdict=digest_json(verdict) if verdict else None,
            kind="promoted",
            override=refused is not None or lacking is not None,
            permit=permit,
        )
    return _finish(store, row, alias, now, event, wait_s)


def rollback(
    store: Store,
    name: str,
    alias: str = "production",
    *,
    to: str | None = None,
    only_from: Digest | None = None,
    who: str,
    reason: str,
    detail: Mapping[str, Any] | None = None,
    wait_s: float = 0.0,
) -> Moved:
    """Point an alias back to the release that was live before, or to another one that was.

    A second rollback goes one further back, never forward again to what was rolled back. Nobody has to approve it: what was
    live was approved then, and going back must not wait. With `only_from` nothing but that release is taken back. `detail`
    goes on record with the move, such as what was measured.

    Raises:
        ReleaseError: nothing was live before, `to` never was, or its bytes are gone. There is no fallback to the base.
    """
    store.check_known(name)
    moves = [
        # Back to one that was replaced since, to lose a golden probe, is back to what took its place.
        replace(event, to=store.current(event.to))
        for event in store.history(name, kinds=MOVES)
        if event.alias == alias and event.to
    ]
    # Where it is and where it was are read in one go; that it is still there is for the move to find out.
    now = moves[-1].to if moves else None
    if now is None:
        raise ReleaseError(
            f'{name} has no alias "{alias}": nothing is live that could be rolled back.',
            mend=f"Read `budwood history {name}`.",
        )
    if only_from is not None and now != only_from:
        store.check_place(name, alias, only_from)
    row = _where_it_was(store, name, alias, moves, now=now, to=to)
    _check_parts_present(store, row)
    verdict = store.manifest(row.digest).body.get("verdict")
    event = store.move_alias(
        name,
        alias,
        row.digest,
        expect=now,
        who=who,
        reason=reason,
        verdict=digest_json(verdict) if verdict else None,
        kind="rolled_back",
        detail=detail,
    )
    return _finish(store, row, alias, now, event, wait_s)


def _where_it_was(
    store: Store, name: str, alias: str, moves: Sequence[HistoryEvent], *, now: Digest, to: str | None
) -> ReleaseRow:
    """Find the release to go back to: the one before, or `to`.

    Raises:
        ReleaseError: there is none, it was never live, or it was deleted.
    """
    wanted = store.find_release(to if "@" in to else f"{name}@{to}").digest if to else _before(line_of(moves, name, alias))
    target = None if wanted is None else store.current(wanted)
    if target is None:
        raise ReleaseError(
            f"Nothing was live as {name}@{alias} before {short(now)}…: there is nothing to roll back to.",
            mend=f"Nothing was changed. Promote another release: `budwood promote {name}@NUMBER --alias {alias}`.",
        )
    if target not in {event.to for event in moves}:
        raise ReleaseError(
            f"Release {short(target)}… was never live as {name}@{alias}, so this is no rollback.",
            mend=f"Nothing was changed. Promote it instead: `budwood promote {name}@{short(target)} --alias {alias}`.",
        )
    row = next(row for row in store.releases(name) if row.digest == target)
    stone = store.tombstone_of(target)
    if stone is not None:
        raise ReleaseError(
            f"{name}@{row.version} ({short(target)}…) cannot come back: it was deleted on {stone.at[:10]} by {stone.who}: "
            f"{stone.reason}",
            mend=f"Nothing was changed, {name}@{alias} stays at {short(now)}…. Choose another that was live: "
            f"`budwood rollback {name} --to NUMBER`; `budwood history {name}` lists them.",
        )
    return row


def wait_for_servers(
    store: Store,
    name: str,
    alias: str,
    digest: Digest,
    *,
    wait_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[ServerState, ...]:
    """Look until every server of this catalog follows, has refused or is lost, or the time is over.

    A server that stopped has taken itself off. One that is silent is waited for until nothing has come from it for as long
    as a living one is never silent, by our own clock: theirs may differ, and a catalog may be locked for a moment.
    """
    listener = Listener(clock)
    deadline = clock() + wait_s
    while True:
        states = server_states(store, name, alias, digest, listener.hear)
        if all(state.state != "waiting" for state in states) or clock() >= deadline:
            return states
        sleep(POLL_S)


@contextmanager
def _warmed(store: Store, row: ReleaseRow, *, wait_s: float) -> Iterator[None]:
    """Have servers ready for a move that is made inside."""
    if wait_s <= 0:
        yield
        return
    warm_up(store, row, wait_s=wait_s)
    try:
        yield
    finally:
        # It ends by itself; a move that is made must not look as if it had failed, nor a failure like another one.
        with suppress(StoreError):
            store.warmups.end(row.name, row.digest)


def warm_up(
    store: Store,
    row: ReleaseRow,
    *,
    wait_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Ask every server to have a release ready, and wait until all that are heard of have answered, or the time is over.

    They keep it until `Store.warmups.end`, or for half a minute after that time.
    """
    if not any(server.alive for server in store.servers()):
        return
    store.warmups.ask(row.name, row.digest, lasts_s=wait_s + WARM_S)
    deadline = clock() + wait_s
    while clock() < deadline:
        said = {report.server_id for report in store.warmups.reports(row.digest)}
        if all(server.server_id in said for server in store.servers() if server.alive):
            return
        sleep(POLL_S)


def _finish(store: Store, row: ReleaseRow, alias: str, before: Digest | None, event: HistoryEvent, wait_s: float) -> Moved:
    servers = wait_for_servers(store, row.name, alias, row.digest, wait_s=wait_s) if wait_s > 0 else ()
    return Moved(row.name, alias, row.version, row.digest, before, event.seq, servers, wait_s > 0)


def followed(servers: Sequence[ServerState]) -> bool:
    """Whether all of these answer from the release. A lost one may be cut off from the catalog alone, and answer still."""
    return all(server.state == "follows" for server in servers)


class Listener:
    """Who is heard of, by the listener's own clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: dict[str, tuple[str, float, bool]] = {}

    def hear(self, server: ServerRow) -> Hearing:
        """Take in what the records say of a server now; to be called again and again."""
        now = self._clock()
        seen, since, here = self._last.get(server.server_id, (server.seen, now, server.alive))
        if server.seen != seen:
            seen, since, here = server.seen, now, True
        self._last[server.server_id] = (seen, since, here)
        if now - since >= SILENCE_S:
            return "lost"
        return "here" if here else "silent"


def hear_once(server: ServerRow) -> Hearing:
    """Take the records at their word."""
    return "here" if server.alive else "lost"


def server_states(
    store: Store, name: str, alias: str, digest: Digest, hear: Callable[[ServerRow], Hearing] = hear_once
) -> tuple[ServerState, ...]:
    """How far each server of the catalog is from serving this release under this alias."""
    reports = {row.server_id: row for row in store.observed(name, alias)}
    states = []
    for server in store.servers():
        row, hearing = reports.get(server.server_id), hear(server)
        if hearing == "here":
            nothing = ServerState(server.server_id, "waiting", "has not reported yet")
            states.append(server_state(row, digest) if row else nothing)
        else:
            states.append(_unheard(server, row, lost=hearing == "lost"))
    return tuple(states)


def _unheard(server: ServerRow, row: ObservedRow | None, *, lost: bool) -> ServerState:
    last = f"when it was at {short(row.digest)}…" if row else "and before that it reported nothing"
    detail = f"not heard of since {server.seen[:19]}, {last}"
    if lost:
        detail += "; it counts as not following until it is heard of again, or for a day of silence"
    return ServerState(server.server_id, "lost" if lost else "waiting", detail)


def server_state(row: ObservedRow, digest: Digest) -> ServerState:
    """Compare what a server reports with the release that it should serve."""
    if row.digest == digest and row.ok:
        return ServerState(row.server_id, "follows", f"follows since {row.since[:19]}")
    if row.digest == digest:
        return ServerState(row.server_id, "failed", f"refused the release: {row.detail}")
    detail = f"still at {short(row.digest)}…, last seen {row.seen[:19]}"
    return ServerState(row.server_id, "waiting", f"{detail}: {row.detail}" if row.detail else detail)


def _now(store: Store, name: str, alias: str) -> Digest | None:
    return next((row.digest for row in store.aliases(name) if row.alias == alias), None)


def _expected(store: Store, name: str, expect: str) -> Digest | None:
    if expect == "none":
        return None
    return store.find_release(expect if "@" in expect else f"{name}@{expect}").digest


def _check_parts_present(store: Store, row: ReleaseRow) -> None:
    """A release whose adapter or base object is gone must not go live, nor one that is not signed as it has to be."""
    body = store.manifest(row.digest).body
    for digest in (body["base"]["object"], body["result"]["digest"]):
        if digest is not None:
            store.manifest(digest)
    check_rule(store, row.name, row.digest)


def _before(line: Sequence[Digest]) -> Digest | None:
    return line[-2] if len(line) > 1 else None
