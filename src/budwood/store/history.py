"""The history: append-only events, each bound to the one before.

An event's digest is over all its fields, its sequence number and the digest of its predecessor, so an edited, removed,
repeated or reordered event breaks the chain at a place that can be named. A cut at the end is noticed because the head
(last number and digest) is kept twice besides: in a table of one row and in a small file.

Times may go back, numbers cannot: `seq` decides what came after what.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from budwood.identity import Digest, digest_json, short

GENESIS = Digest("0" * 64)
"""What the first event names as its predecessor."""

MOVES = ("promoted", "rolled_back")
"""Kinds of events that move an alias."""
TOKEN_EVENTS = TOKEN_CREATED, TOKEN_REVOKED = "token_created", "token_revoked"
"""Kinds of events about access tokens; `detail` says which."""
REPAIRED = "repaired"
"""Kind of the event with which somebody goes on after damage to the history."""
UNREADABLE = "unreadable"
"""The one key in the `detail` of an event whose row holds something that cannot be read: field → what is there."""


@dataclass(frozen=True)
class Head:
    """The end of the chain; `Head()` is that of an empty history."""

    seq: int = 0
    digest: Digest = GENESIS

    def __str__(self) -> str:
        return f"{self.seq}-{self.digest}"


UNREADABLE_HEAD = Head(-1, Digest(""))
"""What a head file says that is there but cannot be read."""


@dataclass(frozen=True)
class HistoryEvent:
    """One thing that happened.

    Args:
        seq: 1, 2, 3… without gaps.
        at: UTC, ISO 8601 with microseconds, as the clock said.
        kind: "released", "promoted", "rolled_back", "judged", "approved", "forgotten", "removal_begun", "removal_ended" or
            another word of a stage.
        who: person or program.
        name: release name; None when the event concerns none.
        alias: alias that was moved.
        from_: release that the alias pointed to before; None: the alias is new.
        to: release that it points to since, or the object that the event is about.
        expect: what the mover expected to find; "" when it did not say.
        verdict: digest of the verdict on which it was done.
        reason: why, in the mover's words.
        override: done against the verdict, or without one.
        detail: further JSON values.
        previous: digest of the event before.
        digest: digest of this one.
    """

    seq: int
    at: str
    kind: str
    who: str
    name: str | None = None
    alias: str | None = None
    from_: Digest | None = None
    to: Digest | None = None
    expect: str = ""
    verdict: Digest | None = None
    reason: str = ""
    override: bool = False
    detail: Mapping[str, Any] = field(default_factory=dict)
    previous: Digest = GENESIS
    digest: Digest = GENESIS

    def compute_digest(self) -> Digest:
        """Hash all fields but the digest itself."""
        fields = {key: value for key, value in vars(self).items() if key != "digest"}
        return digest_json({**fields, "detail": dict(self.detail)})

    @property
    def is_whole(self) -> bool:
        """Whether the event is what was written."""
        return self.compute_digest() == self.digest

    def as_dict(self) -> dict[str, Any]:
        """JSON values, with the field names that people expect."""
        values = dict(vars(self))
        values["from"] = values.pop("from_")
        return values | {"detail": dict(self.detail)}


def next_event(head: Head, last_at: str | None, now: datetime, event: HistoryEvent) -> HistoryEvent:
    """Number, date and bind an event; a clock that went back since `last_at` is recorded in `detail`."""
    detail = dict(event.detail)
    if last_at is not None and now < datetime.fromisoformat(last_at):
        detail["clock_went_back_s"] = round((datetime.fromisoformat(last_at) - now) / timedelta(seconds=1), 6)
    bound = replace(event, seq=head.seq + 1, at=iso(now), detail=detail, previous=head.digest)
    return replace(bound, digest=bound.compute_digest())


def iso(moment: datetime) -> str:
    """Write a time so that text order is time order."""
    return moment.isoformat(timespec="microseconds")


def chain_faults(
    events: Sequence[HistoryEvent], table: Head | None, file: Head | None, *, before: Sequence[Head] = ()
) -> list[str]:
    """Name every place where the history is not what was written.

    Args:
        events: in the order of their numbers.
        table: head as the catalog has it; None: its row is gone.
        file: head as the file has it; None: the file is gone. It may lag behind (a crash just after a move), never lead.
        before: number and digest of the events before these, which were checked already.
    """
    faults: list[str] = []
    previous = before[-1] if before else Head()
    for event in events:
        if event.seq != previous.seq + 1:
            faults.append(f"history: event {previous.seq + 1} is missing before event {event.seq}")
        elif event.previous != previous.digest:
            faults.append(f"history: event {event.seq} does not follow event {previous.seq}: reordered, replaced or removed")
        if not event.is_whole:
            faults.append(_event_fault(event))
        previous = Head(event.seq, event.digest)
    known = {Head(), *before, *(Head(event.seq, event.digest) for event in events)}
    return faults + _head_faults(known, previous, table, file)


def _event_fault(event: HistoryEvent) -> str:
    odd = event.detail.get(UNREADABLE)
    if isinstance(odd, Mapping) and len(event.detail) == 1:
        fields = ", ".join(f"{key} is {value}" for key, value in odd.items())
        return f"history: event {event.seq} cannot be read: {fields}"
    return f"history: event {event.seq} ({event.kind}) was edited"


def _head_faults(known: Container[Head], last: Head, table: Head | None, file: Head | None) -> list[str]:
    if table is None:
        return ["history: the head row is gone from the catalog"]
    if table != last:
        return [f"history: the head row says event {table.seq} ({short(table.digest)}…), the last event here is {last.seq}"]
    if file is None:
        return ["history: the file history.head is gone"]
    if file == UNREADABLE_HEAD:
        return ["history: the file history.head cannot be read"]
    return [] if file in known else [f"history: history.head knows {_missing(file)}"]


def noted_fault(events: Sequence[HistoryEvent], noted: Head) -> str | None:
    """Say what is wrong when an event that somebody wrote down elsewhere is not in the history; None when it is.

    Its digest stands for everything before it, so one line on paper guards the whole past.
    """
    known = {Head(event.seq, event.digest) for event in events} | {Head()}
    return None if noted in known else f"history: --head names {_missing(noted)}"


def _missing(head: Head) -> str:
    return (
        f"event {head.seq} ({short(head.digest)}…), which is not in the catalog: "
        "the end was cut off, or an older catalog was put back"
    )


def state_of(events: Sequence[HistoryEvent]) -> Digest:
    """Name the events as they stand, damaged ones included: one more change gives another name."""
    return digest_json([[event.seq, event.digest, event.compute_digest()] for event in events])


def sort_accepted(events: Sequence[HistoryEvent], faults: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell faults that still count from those that somebody went on after; those of ends that were cut off are told too.

    A fault is accepted only as long as the events before the acceptance stand as they stood then, so that a second change
    at the same place isn't taken for the first.
    """
    named: dict[str, str] = {}
    accepted: set[str] = set()
    for number, event in enumerate(events):
        if event.kind != REPAIRED or not event.is_whole:
            continue
        told = [str(fault) for fault in event.detail.get("faults", ())]
        named |= {fault: f"{fault} (accepted by {event.who} in event {event.seq}: {event.reason})" for fault in told}
        if event.detail.get("state") == state_of(events[:number]):
            accepted |= set(told)
    left = [fault for fault in faults if fault not in accepted]
    return left, [line for fault, line in named.items() if fault not in left]


def last_moves(events: Sequence[HistoryEvent]) -> dict[tuple[str, str], HistoryEvent]:
    """Walk the moves: (name, alias) → the event that put it where it must be now."""
    return {
        (event.name, event.alias): event for event in events if event.kind in MOVES and event.name and event.alias and event.to
    }


def move_at(events: Sequence[HistoryEvent], name: str, alias: str, when: datetime) -> HistoryEvent | None:
    """Find what put an alias where it was at a moment: the move with the highest number that is not later than `when`."""
    found: HistoryEvent | None = None
    for event in events:
        moved = event.kind in MOVES and (event.name, event.alias) == (name, alias)
        if moved and datetime.fromisoformat(event.at) <= when:
            found = event
    return found


def line_of(events: Sequence[HistoryEvent], name: str, alias: str) -> list[Digest]:
    """Walk the moves as a stack, the live release last: promotions put on, rollbacks take off down to their target."""
    stack: list[Digest] = []
    for event in events:
        if event.kind not in MOVES or (event.name, event.alias) != (name, alias) or event.to is None:
            continue
        if event.kind == "rolled_back" and event.to in stack:
            while stack[-1] != event.to:
                stack.pop()
        elif not stack or stack[-1] != event.to:
            stack.append(event.to)
    return stack
