"""The face of a store for what moves: releases by name, aliases, servers, and the history of it all."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from budwood.errors import StoreError
from budwood.identity import Digest
from budwood.store.history import TOKEN_EVENTS, Head, HistoryEvent, move_at
from budwood.store.names import check_digest
from budwood.store.removals import BEGUN, DELETED, ENDED
from budwood.store.room import Room
from budwood.store.rows import ANY, AliasRow, Anything, Observation, ObservedRow, ReleaseRow, ServerRow

if TYPE_CHECKING:
    from budwood.store.access import Access
    from budwood.store.canaries import Canaries
    from budwood.store.drifts import Drifts
    from budwood.store.registry import Permit
    from budwood.store.warmups import Warmups


class NameRoom(Room):
    """Names; see `Store`."""

    def add_release(self, name: str, release: str, *, who: str, reason: str) -> int:
        """Register a release object under the next number of a name."""
        with self._at_gate("a release", alone=False):
            return self._parts.registry.add(name, check_digest(release), who=who, reason=reason)

    def check_known(self, name: str) -> None:
        """Refuse a release name that the store has never heard of.

        Raises:
            StoreError: it names the nearest one that it knows.
        """
        self._parts.registry.check_known(name)

    def releases(self, name: str | None = None) -> list[ReleaseRow]:
        return self._parts.registry.releases(name)

    def find_release(self, ref: str) -> ReleaseRow:
        """Find by name (= name@production), name@alias, name@number, name@digest, or digest; 6 digits will do."""
        return self._parts.registry.find(ref)

    def aliases(self, name: str | None = None) -> list[AliasRow]:
        return self._parts.registry.aliases(name)

    def check_place(self, name: str, alias: str, expect: Digest | None) -> None:
        """Refuse, in the words of `move_alias`, when an alias is not at `expect`; None: it must not be there yet."""
        self._parts.registry.check_place(name, alias, expect)

    def move_alias(
        self,
        name: str,
        alias: str,
        to: str,
        *,
        expect: Digest | Anything | None = ANY,
        who: str,
        reason: str,
        verdict: Digest | None = None,
        kind: Literal["promoted", "rolled_back"] = "promoted",
        override: bool = False,
        detail: Mapping[str, Any] | None = None,
        permit: "Permit | None" = None,
    ) -> HistoryEvent:
        """Move an alias by compare-and-swap; moving it to where it is changes nothing and gives the event that did it.

        `expect` is where the mover believes the alias to be: a release, None for "not yet there", or ANY. `detail` goes on
        record with the move. `permit` is asked in the same transaction, with the events of this name: it raises to refuse,
        and what it returns goes on record too.

        Raises:
            StoreError: it is elsewhere (who moved it, and when, is said), or `to` is no whole release of this name.
        """
        with self._at_gate("a move", alone=False):
            return self._parts.registry.move(
                name,
                alias,
                to,
                expect=expect,
                who=who,
                reason=reason,
                verdict=verdict,
                kind=kind,
                override=override,
                detail=detail or {},
                permit=permit,
            )

    def observe(self, server_id: str, name: str, alias: str, digest: str, ok: bool, detail: str) -> None:
        """Report what a server serves under an alias."""
        self.observe_all(server_id, [Observation(name, alias, digest, ok, detail)])

    def observe_all(self, server_id: str, found: "Sequence[Observation]") -> None:
        """Report what a server serves under several aliases, in one transaction."""
        self._parts.observations.put(server_id, found)

    def observed(self, name: str | None = None, alias: str | None = None) -> list[ObservedRow]:
        return self._parts.observations.rows(name, alias)

    def server_beat(self, server_id: str) -> None:
        """Report that a server is there and follows this catalog, whether or not it serves anything yet."""
        self._parts.observations.beat(server_id)

    def servers(self) -> list[ServerRow]:
        return self._parts.observations.servers()

    def forget_server(self, server_id: str) -> None:
        self._parts.observations.forget(server_id)

    @property
    def canaries(self) -> "Canaries":
        """Releases on trial: canaries, shadows, and what is watched after a promotion."""
        return self._parts.canaries

    @property
    def warmups(self) -> "Warmups":
        """Releases that servers are asked to have ready."""
        return self._parts.warmups

    @property
    def drifts(self) -> "Drifts":
        """Whether production still resembles what releases were judged on."""
        return self._parts.drifts

    @property
    def access(self) -> "Access":
        """Tokens of servers, and the record of what was done with them."""
        return self._parts.access

    def history(self, name: str | None = None, *, kinds: Sequence[str] = ()) -> list[HistoryEvent]:
        """Events in the order of their numbers: all, or those of one release name, of some kinds."""
        return self._parts.ledger.events(name, kinds=kinds)

    def mark(self) -> bytes | None:
        """A value that is another one after each event of the history, for some microseconds; None: it cannot be told.

        Only a hint: where the disk was full, or folders are far away, it may stay what it was after an event.
        """
        try:
            # A hundred bytes, with the number of the last event; the catalog itself need not be there to read them.
            return self._parts.head_file.read_bytes()
        except OSError:
            return None

    def add_event(self, event: HistoryEvent) -> HistoryEvent:
        """Put something on record that moves no alias, e.g. that a gate judged."""
        if event.kind in {"promoted", "rolled_back", "released", "forgotten", "repaired", BEGUN, DELETED, ENDED, *TOKEN_EVENTS}:
            raise StoreError(f'"{event.kind}" events are written by the move itself.', mend="Call that instead.")
        with self._parts.ledger.transaction() as entry:
            return entry.append(event)

    def move_at(self, name: str, alias: str, when: datetime) -> HistoryEvent | None:
        """The move that put an alias where it was at a moment (aware datetime); None: it was not there yet."""
        return move_at(self._parts.ledger.events(), name, alias, _aware(when))

    def live_at(self, name: str, alias: str, when: datetime) -> Digest | None:
        """Where an alias pointed at a moment (aware datetime)."""
        move = self.move_at(name, alias, when)
        return None if move is None else move.to

    def head(self) -> Head:
        """Number and digest of the last event: written down elsewhere, it shows later whether the end was cut off."""
        events = self._parts.ledger.events()
        return Head(events[-1].seq, events[-1].digest) if events else Head()

    def served_at(self, name: str, alias: str, when: datetime) -> dict[str, Digest]:
        """What each healthy server had acknowledged at a moment: server → release; one that died is left out since."""
        return self._parts.observations.at(name, alias, _aware(when))

    def accept_history(self, *, who: str, reason: str) -> HistoryEvent:
        """Go on after damage to the history; what was wrong is put on record, and `verify` lists it as accepted since."""
        return self._parts.ledger.repair(who=who, reason=reason)


def _aware(when: datetime) -> datetime:
    if when.tzinfo is None:
        raise StoreError(f"The time {when.isoformat()} has no time zone.", mend="Add one, e.g. 2026-09-01T14:00+00:00.")
    return when
