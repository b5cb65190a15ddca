"""What was live at a moment: where the alias pointed, who had moved it, on what evidence, and what servers answered from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from budwood.identity import Digest, digest_json
from budwood.release.approvals import APPROVED
from budwood.release.status import body_or_reason
from budwood.store import HistoryEvent, Store


@dataclass(frozen=True)
class Past:
    """One alias at one moment.

    Args:
        name: release name.
        alias: its alias.
        at: the moment, aware.
        digest: where the alias pointed; None: it was not there yet.
        version: number of that release.
        move: the event that had put it there.
        verdict: what the gate had said of it, as the event has it on record; "unknown" where the words are gone.
        approved_by: whose approvals were counted.
        served: what each server had acknowledged: server → release.
    """

    name: str
    alias: str
    at: datetime
    digest: Digest | None
    version: int | None
    move: HistoryEvent | None
    verdict: str
    approved_by: tuple[str, ...]
    served: Mapping[str, Digest]

    def as_dict(self) -> dict[str, Any]:
        """JSON values; "desired" is where the alias pointed."""
        values = asdict(self) | {"at": self.at.isoformat(), "served": dict(self.served)}
        values["desired"] = values.pop("digest")
        return values | {"move": self.move.as_dict() if self.move else None, "approved_by": list(self.approved_by)}


def live_on(store: Store, name: str, alias: str, at: datetime) -> Past:
    """Look back.

    Raises:
        StoreError: nobody has ever heard of that name, or the moment has no time zone.
    """
    store.check_known(name)
    move = store.move_at(name, alias, at)
    numbers = {row.digest: row.version for row in store.releases(name)}
    digest = move.to if move else None
    return Past(
        name,
        alias,
        at,
        digest,
        numbers.get(digest) if digest else None,
        move,
        _verdict(store, move) if move else "none",
        _approved_by(store.history(name), move) if move else (),
        store.served_at(name, alias, at),
    )


def _verdict(store: Store, move: HistoryEvent) -> str:
    if move.verdict is None or move.to is None:
        return "not judged"
    body, _ = body_or_reason(store, move.to)
    said = body.get("verdict") if body else None
    return str(said["verdict"]) if said and digest_json(said) == move.verdict else "unknown"


def _approved_by(events: list[HistoryEvent], move: HistoryEvent) -> tuple[str, ...]:
    counted = move.detail.get("approvals", {}).get("events", ())
    return tuple(event.who for event in events if event.seq in counted and event.kind == APPROVED)
