"""What an import does to a store besides committing objects: it says what was left out, and registers the release.

A parent that was left out gets a tombstone marked `absent`, and one event of the history names all of them: without that
event `verify` takes such a mark for an attempt to make an object vanish. Each step may be cut short; doing it again finishes.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from budwood.identity import Digest
from budwood.store.durable import write_file
from budwood.store.history import HistoryEvent
from budwood.store.manifest import TOMBSTONE, Kind
from budwood.store.names import check_digest
from budwood.store.tombstones import Tombstone

if TYPE_CHECKING:
    from budwood.store.store import Store

IMPORTED = "imported"


def leave_out(store: "Store", left_out: Mapping[Digest, Kind], release: Digest, *, who: str, reason: str) -> None:
    """Mark the objects that an import does not bring; those that are here, or marked already, are passed over.

    Args:
        store: that imports.
        left_out: digest → kind, as the exporter says.
        release: that is imported.
        who: imports it.
        reason: shown wherever one of the objects is asked for.
    """
    objects = store._objects
    new = {
        check_digest(digest): kind
        for digest, kind in left_out.items()
        if not objects.exists(digest) and objects.tombstone(digest) is None
    }
    if not new:
        return
    with store._at_gate("an import", alone=False), store._parts.writing("an import"):
        with store._parts.ledger.transaction() as entry:
            detail = {"left_out": sorted(new)}
            event = entry.append(HistoryEvent(0, "", IMPORTED, who, to=release, reason=reason, detail=detail))
        for digest, kind in new.items():
            stone = Tombstone(digest, kind, (), reason, who, event.at, absent=True)
            scratch = store._parts.scratch()
            scratch.mkdir()
            write_file(scratch / TOMBSTONE, stone.encode())
            objects.place_mark(scratch, digest)


def add_imported(store: "Store", name: str, release: Digest, *, version: int | None, who: str, reason: str) -> int:
    """Register a release that came from elsewhere, under the number that it has there (None: under the next one here).

    Raises:
        StoreError: that number is another release here.
    """
    with store._at_gate("a release", alone=False):
        return store._parts.registry.add(name, check_digest(release), who=who, reason=reason, version=version)
