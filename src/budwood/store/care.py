"""Taking bytes out of the store: collection of what nothing needs, and removal for good with a tombstone.

Both run while the gate is held alone, so no writer is between two steps.
"""

from collections.abc import Callable, Collection, Container, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from budwood.errors import StoreError
from budwood.identity import Digest, short
from budwood.new_folder import sync
from budwood.store.attestations import Attestations
from budwood.store.collect import unreferenced
from budwood.store.durable import write_file
from budwood.store.history import HistoryEvent, iso
from budwood.store.index import Index
from budwood.store.ledger import Ledger
from budwood.store.manifest import TOMBSTONE
from budwood.store.objects import Objects
from budwood.store.rows import AliasRow
from budwood.store.tombstones import Tombstone


def doomed(
    objects: Objects,
    attestations: Attestations,
    roots: set[Digest],
    now: datetime,
    older_than_s: float,
    retired: Collection[Digest] = (),
) -> list[Digest]:
    """List what nothing refers to and what is old enough to go, children first.

    `retired` are releases that go with a tombstone, or are to: of them nothing is kept.
    """
    parents: dict[Digest, tuple[Digest, ...]] = {}
    buried: set[Digest] = set(retired)
    for digest in objects.digests():
        if digest in buried:
            parents[digest] = ()
            continue
        tombstone = objects.tombstone(digest)
        if tombstone is not None:
            buried.add(digest)
        parents[digest] = _kept_by(tombstone) if tombstone else objects.manifest(digest).parents
    limit = now - timedelta(seconds=older_than_s)

    def is_young(digest: Digest) -> bool:
        return digest in buried or _last_made(objects, attestations, digest) > limit

    return unreferenced(parents, roots, is_young)


def _kept_by(tombstone: Tombstone) -> tuple[Digest, ...]:
    """What stands in the place of an object that releases were made from is as little litter as that was.

    A release that was deleted keeps nothing: that its parts can go is why one deletes it.
    """
    if tombstone.kind == "release" and tombstone.successor is None:
        return ()
    return (*tombstone.parents, *([tombstone.successor] if tombstone.successor else []))


def remove(
    objects: Objects, attestations: Attestations, index: Index, digests: Sequence[Digest], trash: Callable[[], Path]
) -> None:
    """Take objects out, one rename each; cut short, what is left is a whole store with fewer objects.

    The index forgets them first: an object that it doesn't know is entered again, one that it knows must be there.
    """
    index.remove(digests)
    for digest in digests:
        objects.take_out(digest, trash())
        attestations.drop(digest)


def finish_removals(objects: Objects, attestations: Attestations, events: Sequence[HistoryEvent]) -> None:
    """Delete what removals that were cut short have left; a tombstone that is not the recorded one is not obeyed."""
    recorded = _removals(events)
    for digest in objects.digests():
        stone = objects.tombstone(digest)
        event = recorded.get(digest)
        if stone is not None and event is not None and stone.fits(event.detail):
            _delete(objects, attestations, stone)


def bury(
    objects: Objects,
    attestations: Attestations,
    ledger: Ledger,
    wanted: Tombstone,
    scratch: Callable[[], Path],
) -> Tombstone:
    """Mark, put on record, delete; whatever step a crash comes after, running it again finishes it.

    Raises:
        StoreError: its tombstone is not the one on record.
    """
    digest = wanted.digest
    tombstone = objects.tombstone(digest)
    marked = False
    if tombstone is None:
        tombstone = wanted
        path = scratch()
        write_file(path, tombstone.encode())
        path.rename(objects.folder(digest) / TOMBSTONE)
        marked = True
    # On disk before it is on record: an event without its tombstone would read as bytes that somebody put back.
    sync(objects.folder(digest))
    event = _removals(ledger.events()).get(digest)
    if event is not None and not marked and not tombstone.fits(event.detail):
        raise StoreError(
            f"The {TOMBSTONE} of {short(digest)}… is not the one of event {event.seq}: it was edited.",
            where=str(objects.folder(digest)),
            mend="Nothing was changed. Restore that file from a backup, then run the removal again.",
        )
    if event is None or marked:
        with ledger.transaction() as entry:
            detail = {"tombstone": tombstone.own_digest}
            entry.append(HistoryEvent(0, "", "forgotten", tombstone.who, to=digest, reason=tombstone.reason, detail=detail))
    _delete(objects, attestations, tombstone)
    return tombstone


def _removals(events: Sequence[HistoryEvent]) -> dict[Digest, HistoryEvent]:
    """The last removal of each object."""
    return {event.to: event for event in events if event.kind == "forgotten" and event.to}


def _delete(objects: Objects, attestations: Attestations, stone: Tombstone) -> None:
    objects.bury(stone)
    attestations.drop(stone.digest, attachments_only=True)


def check_reason(reason: str) -> None:
    if not reason.strip():
        raise StoreError("A removal needs a reason.", mend="Say why in a few words; it stays on record.")


def make_tombstone(
    objects: Objects, digest: Digest, *, who: str, reason: str, now: datetime, successor: Digest | None = None
) -> Tombstone:
    """Write down what stays of an object, or give the tombstone that it has."""
    check_reason(reason)
    existing = objects.tombstone(digest)
    if existing is not None:
        return existing
    manifest = objects.manifest(digest)
    return Tombstone(digest, manifest.kind, manifest.parents, reason, who, iso(now), successor)


def check_removable(objects: Objects, aliases: Sequence[AliasRow], held: Container[str], digest: Digest) -> None:
    """Refuse to remove what is live or in use; what carries its tombstone already may always be finished.

    Args:
        objects: of the store.
        aliases: where they point.
        held: what other living processes work with.
        digest: of what is to go.
    """
    if objects.tombstone(digest) is not None:
        return
    kind = objects.manifest(digest).kind
    if digest in held:
        raise StoreError(
            f"The {kind} {short(digest)}… is in use: a command that is running works with it.",
            mend="Nothing was changed. Let that command end, or stop it; then run this again.",
        )
    # To answer, a release needs itself, its base and what is put on it; not the data and reports that it came from.
    served = kind in ("base", "adapter", "model")
    for row in aliases:
        needed = {row.digest, *objects.manifest(row.digest).parents} if served else {row.digest}
        if digest in needed:
            raise StoreError(
                f"The {kind} {short(digest)}… is live: {row.name}@{row.alias} is at release {short(row.digest)}….",
                mend="Nothing was changed. Promote or roll back to another release first.",
            )


def _last_made(objects: Objects, attestations: Attestations, digest: Digest) -> datetime:
    said = [str(item["at"]) for item in attestations.read(digest) if "at" in item]
    if said:
        return datetime.fromisoformat(said[-1])
    return datetime.fromtimestamp(objects.folder(digest).stat().st_mtime).astimezone()
