"""Checking a store from end to end: every byte, every link, every event.

report = store.verify()
report.ok, report.problems

Nothing that is damaged ends the check: it becomes a line, and the next object is looked at. The store may be in use
meanwhile, so the catalog is read first and whole, and what doesn't fit the objects is looked at once more at the end.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from budwood.errors import StoreError
from budwood.events import Event, Reporter
from budwood.identity import Digest, short
from budwood.store.attestations import Attestations
from budwood.store.history import Head, chain_faults, last_moves, noted_fault, sort_accepted
from budwood.store.imports import IMPORTED
from budwood.store.manifest import Manifest
from budwood.store.objects import Objects
from budwood.store.removals import unfinished
from budwood.store.tombstones import Tombstone
from budwood.store.trials import trial_problems

if TYPE_CHECKING:
    from budwood.store.state import CatalogState


@dataclass(frozen=True)
class VerifyReport:
    """What was checked and what is wrong.

    `forgotten` objects are fine, and listed; so are `accepted` faults of the history, with who went on after them and why.
    """

    objects: int
    events: int
    problems: tuple[str, ...]
    forgotten: tuple[Tombstone, ...]
    accepted: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class Look:
    """One object as it lies on disk: its manifest or tombstone, None where neither can be read, and what is wrong."""

    found: Manifest | Tombstone | None
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """Everything that lies in `objects/`; `strays` are faults of what is no object."""

    looks: Mapping[Digest, Look]
    strays: tuple[str, ...]

    @property
    def manifests(self) -> dict[Digest, Manifest]:
        return {digest: look.found for digest, look in self.looks.items() if isinstance(look.found, Manifest)}

    @property
    def tombstones(self) -> dict[Digest, Tombstone]:
        return {digest: look.found for digest, look in self.looks.items() if isinstance(look.found, Tombstone)}

    def problems(self) -> list[str]:
        damaged = [f"object {short(digest)}…: {fault}" for digest, look in self.looks.items() for fault in look.faults]
        return [*self.strays, *damaged]


def verify(
    objects: Objects,
    attestations: Attestations,
    read_state: Callable[[], "CatalogState"],
    at_rest: Callable[[], AbstractContextManager[None]],
    report: Reporter,
    noted: Head | None = None,
) -> VerifyReport:
    """Check everything.

    Args:
        objects: hashed again.
        attestations: looked through for what a removal has left.
        read_state: reads the catalog.
        at_rest: a time in which nothing is collected or removed.
        report: told of progress.
        noted: an end of the history that was written down elsewhere; it must be in it.
    """
    state = read_state()
    found = check_objects(objects, attestations, report)
    problems = [*found.problems(), *compare(state, found)]
    if problems:
        # What was made, collected or removed while we hashed fits an older or a newer catalog, damage fits neither.
        with at_rest():
            found = _look_again(objects, attestations, found)
            misfits = set(compare(read_state(), found))
        problems = [*found.problems(), *(problem for problem in compare(state, found) if problem in misfits)]
    faults, accepted = sort_accepted(state.events, chain_faults(state.events, state.head, state.file))
    late = noted_fault(state.events, noted) if noted is not None else None
    faults += [late] if late is not None else []
    forgotten = tuple(found.tombstones.values())
    return VerifyReport(len(found.looks), len(state.events), (*problems, *faults), forgotten, tuple(accepted))


def check_objects(objects: Objects, attestations: Attestations, report: Reporter) -> Found:
    """Hash every object again."""
    looks: dict[Digest, Look] = {}
    digests, strays = objects.survey()
    for number, digest in enumerate(digests):
        report(Event("store", "Hashing objects", number, len(digests), "objects"))
        looks[digest] = _look(objects, attestations, digest)
    report(Event("store", "Hashing objects", len(digests), len(digests), "objects"))
    return Found(looks, tuple(strays))


def compare(state: "CatalogState", found: Found) -> list[str]:
    """List what in the catalog and the objects does not fit together."""
    manifests, tombstones = found.manifests, found.tombstones
    checks = (
        _parent_problems(found),
        _removal_problems(state, found),
        (
            f"the removal that event {event.seq} began, by {event.who}, has not ended; finish it with "
            "`budwood data forget --finish` or `budwood gc`"
            for event in unfinished(state.events)
        ),
        (
            f"object {short(digest)}… ({kind}): is in the catalog, but gone from objects/"
            for digest, kind in state.objects.items()
            if digest not in found.looks
        ),
        _release_problems(state, manifests, tombstones),
        _alias_problems(state, manifests),
        trial_problems(state.trials, state.events),
        (
            f"action {short(key)}…: its result {short(digest)}… is missing or damaged"
            for key, digest in sorted(state.actions.items(), key=str)
            if digest not in manifests and digest not in tombstones
        ),
    )
    return [problem for check in checks for problem in check]


def _look(objects: Objects, attestations: Attestations, digest: Digest) -> Look:
    try:
        tombstone = objects.tombstone(digest)
        if tombstone is not None:
            left = [*objects.remains(digest), *(f"attachment {name}" for name in attestations.attachments(digest))]
            return Look(
                tombstone, tuple(f"{name} is still here after the removal; run `budwood data forget --finish`" for name in left)
            )
        manifest = objects.manifest(digest)
        return Look(manifest, tuple(objects.file_faults(digest, manifest)))
    except StoreError as error:
        return Look(None, (error.what,))
    except OSError as error:
        return Look(None, (f"cannot be read: {error}",))


def _look_again(objects: Objects, attestations: Attestations, found: Found) -> Found:
    """Leave out what has been collected since, and look a second time at what seemed to be damaged."""
    looks = {
        digest: _look(objects, attestations, digest) if look.faults else look
        for digest, look in found.looks.items()
        if objects.folder(digest).is_dir()
    }
    return Found(looks, found.strays)


def _parent_problems(found: Found) -> Iterator[str]:
    for digest, manifest in found.manifests.items():
        for parent in manifest.parents:
            if parent not in found.looks:
                yield f"object {short(digest)}… ({manifest.kind}): parent {short(parent)}… is missing"


def _removal_problems(state: "CatalogState", found: Found) -> Iterator[str]:
    """A tombstone without its event would be a way to make objects vanish unseen; the other way round, bytes came back."""
    recorded = {event.to: event for event in state.events if event.kind == "forgotten" and event.to}
    imported = {digest for event in state.events if event.kind == IMPORTED for digest in event.detail.get("left_out", ())}
    for digest, stone in found.tombstones.items():
        event = recorded.get(digest)
        if event is None and stone.absent and digest in imported:
            continue
        if event is None:
            yield f"object {short(digest)}…: has a tombstone, but no event says so; run `budwood data forget --finish`"
        elif not stone.fits(event.detail):
            yield f"object {short(digest)}…: its tombstone is not the one of event {event.seq}: it was edited"
    for digest, event in recorded.items():
        if digest in found.manifests:
            yield f"object {short(digest)}…: is here, but event {event.seq} removed it; run `budwood data forget --finish`"


def _release_problems(
    state: "CatalogState", manifests: Mapping[Digest, Manifest], tombstones: Mapping[Digest, Tombstone]
) -> Iterator[str]:
    """Compare the table of releases with the history, and follow each row to its object.

    A damaged event is a fault of the history, told there; what it said of its release is not held against the table.
    """
    made = [event for event in state.events if event.kind == "released"]
    told = {(event.name, event.detail.get("version"), event.to): event for event in made if event.is_whole}
    untold = {event.to for event in made if not event.is_whole}
    listed = {(row.name, row.version, row.digest): row for row in state.releases}
    for key, row in listed.items():
        title, manifest = f"release {row.name}@{row.version}", manifests.get(row.digest)
        if manifest is None and row.digest not in tombstones:
            yield f"{title}: object {short(row.digest)}… is missing or damaged"
        elif manifest is not None and manifest.kind != "release":
            yield f"{title}: object {short(row.digest)}… is a {manifest.kind}"
        event = told.get(key)
        if event is None and row.digest not in untold:
            yield f"{title}: no event made it"
        elif event is not None and event.at != row.created_at:
            yield f"{title}: was made at {row.created_at}, the history says {event.at}"
    for name, version, _ in sorted(told.keys() - listed.keys(), key=str):
        yield f"release {name}@{version}: is gone from the catalog"


def _alias_problems(state: "CatalogState", manifests: Mapping[Digest, Manifest]) -> Iterator[str]:
    rows = {(row.name, row.alias): row for row in state.aliases}
    moves = last_moves(state.events)
    for name, alias in sorted(rows.keys() | moves.keys(), key=str):
        row, event = rows.get((name, alias)), moves.get((name, alias))
        here, there = row.digest if row else None, event.to if event else None
        if here != there:
            shown = [short(digest) + "…" if digest else "nothing" for digest in (here, there)]
            yield f"alias {name}@{alias}: points to {shown[0]}, the history says {shown[1]}"
            continue
        if row and event and row.seq != event.seq:
            yield f"alias {name}@{alias}: names event {row.seq}, the history says {event.seq}"
        if here not in manifests:
            yield f"alias {name}@{alias}: release {short(here or '')}… is missing or damaged"
