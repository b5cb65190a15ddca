"""A removal of several objects as one: on record before it begins and after it has ended.

So one that was cut short is found by whoever looks next, and finished without knowing what was looked for. The record holds
digests, names and figures; never a text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from budwood.errors import StoreError
from budwood.identity import Digest
from budwood.store.history import HistoryEvent
from budwood.store.names import check_digest

BEGUN, ENDED = "removal_begun", "removal_ended"
DELETED = "deleted"
"""Kind of the event that names the release which a removal takes away."""


@dataclass(frozen=True)
class Removal:
    """What goes together.

    Args:
        objects: what goes → what stands in its place, None for nothing.
        attachments: digest and name of files beside objects that stay.
        work: key and name of files in work folders.
        facts: figures and digests for the record.
    """

    objects: Mapping[Digest, Digest | None]
    attachments: tuple[tuple[Digest, str], ...] = ()
    work: tuple[tuple[str, str], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_detail(self) -> dict[str, Any]:
        return {
            "objects": [[digest, successor] for digest, successor in self.objects.items()],
            "attachments": [list(one) for one in self.attachments],
            "work": [list(one) for one in self.work],
            "facts": dict(self.facts),
        }


def read_removal(event: HistoryEvent) -> Removal:
    """Read what `as_detail` put on record.

    Raises:
        StoreError: the event says something else.
    """
    try:
        detail = event.detail
        objects = {
            check_digest(digest): None if successor is None else check_digest(successor)
            for digest, successor in detail["objects"]
        }
        attachments = tuple((check_digest(digest), str(name)) for digest, name in detail["attachments"])
        work = tuple((str(key), str(name)) for key, name in detail["work"])
        return Removal(objects, attachments, work, dict(detail["facts"]))
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"Event {event.seq} does not say what it removes: {error!r}.", mend="Read `budwood verify`: it was edited."
        ) from None


def unfinished(events: Sequence[HistoryEvent]) -> list[HistoryEvent]:
    """List the removals that began and have not ended, oldest first."""
    ended = {event.detail.get("of") for event in events if event.kind == ENDED}
    return [event for event in events if event.kind == BEGUN and event.seq not in ended]
