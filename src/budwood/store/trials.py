"""Releases on trial as rows, and whether they are what the history says. The room is `canaries`; nothing here needs SQL."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from budwood.identity import Digest
from budwood.store.history import HistoryEvent

TrialKind = Literal["canary", "shadow", "watch"]
KINDS: tuple[TrialKind, ...] = ("canary", "shadow", "watch")


@dataclass(frozen=True)
class Trial:
    """A release on trial.

    Args:
        name: of the releases.
        alias: whose traffic it gets.
        kind: "canary", "shadow" or "watch".
        digest: the release.
        version: its number.
        against: of a canary or shadow, the release that the alias points to; of a watch, the one that it pointed to before.
        share: of the alias's traffic, above 0, at most 1.
        since: when it began.
        until: when it ends by itself; "": never.
        who: changed it last.
        reason: of that change.
        policy: under which it is ended.
        baseline: counts of what `against` did before, for comparisons; empty: none.
        seq: event of the last change; the expectation of a compare-and-swap.
    """

    name: str
    alias: str
    kind: TrialKind
    digest: Digest
    version: int
    against: Digest
    share: float
    since: str
    until: str
    who: str
    reason: str
    policy: Mapping[str, Any]
    baseline: Mapping[str, Any]
    seq: int


@dataclass(frozen=True)
class TrialReport:
    """What one server says of a trial: whether it can answer from that release, in what words, and what it has counted."""

    server_id: str
    name: str
    alias: str
    kind: TrialKind
    digest: Digest
    ok: bool
    detail: str
    counts: Mapping[str, Any] = field(default_factory=dict)
    seen: str = ""


def trial_problems(rows: Sequence[Trial], events: Sequence[HistoryEvent]) -> Iterator[str]:
    """Name the trials that are not what the history says: those that somebody wrote into the table, changed or took out."""
    last = {
        (str(event.name), str(event.alias), event.kind.partition("_")[0]): event
        for event in events
        if event.kind.partition("_")[0] in KINDS and event.kind.partition("_")[2] in ("started", "changed", "ended")
    }
    found = {(row.name, row.alias, str(row.kind)): row for row in rows}
    for key in sorted(last.keys() | found.keys(), key=str):
        row, event = found.get(key), last.get(key)
        told = event if event is not None and not event.kind.endswith("_ended") else None
        here = (row.digest, row.seq, row.share, row.against, row.until, row.policy) if row else None
        there = (told.to, told.seq, *map(told.detail.get, ("share", "against", "until", "policy"))) if told else None
        if here != there:
            yield f"{key[2]} of {key[0]}@{key[1]}: is not what the history says"
