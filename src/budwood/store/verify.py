"""Checking a store from end to end: every byte, every link, every event.

report = store.verify()
report.ok, report.problems
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from budwood.events import Event, Reporter
from budwood.identity import Digest, short
from budwood.store.history import HistoryEvent, replay_aliases
from budwood.store.manifest import Manifest
from budwood.store.objects import Objects
from budwood.store.rows import AliasRow, ReleaseRow
from budwood.store.tombstones import Tombstone


@dataclass(frozen=True)
class VerifyReport:
    """What was checked and what is wrong; `forgotten` objects are accepted, and listed."""

    objects: int
    events: int
    problems: tuple[str, ...]
    forgotten: tuple[Tombstone, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


def check_objects(objects: Objects, report: Reporter) -> tuple[dict[Digest, Manifest], dict[Digest, Tombstone], list[str]]:
    """Hash every object again; give the readable manifests, the tombstones, and the problems."""
    manifests: dict[Digest, Manifest] = {}
    tombstones: dict[Digest, Tombstone] = {}
    problems = [f"objects/{name} is no object" for name in objects.strangers()]
    digests = list(objects.digests())
    for number, digest in enumerate(digests):
        report(Event("store", "Hashing objects", number, len(digests), "objects"))
        tombstone = objects.tombstone(digest)
        if tombstone is not None:
            tombstones[digest] = tombstone
            continue
        faults = objects.faults(digest)
        problems += [f"object {short(digest)}…: {fault}" for fault in faults]
        if not any("manifest" in fault for fault in faults):
            manifests[digest] = objects.manifest(digest)
    report(Event("store", "Hashing objects", len(digests), len(digests), "objects"))
    return manifests, tombstones, problems


def check_parents(manifests: Mapping[Digest, Manifest], tombstones: Mapping[Digest, Tombstone]) -> list[str]:
    present = manifests.keys() | tombstones.keys()
    return [
        f"object {short(digest)}… ({manifest.kind}): parent {short(parent)}… is missing"
        for digest, manifest in manifests.items()
        for parent in manifest.parents
        if parent not in present
    ]


def check_tombstones(tombstones: Mapping[Digest, Tombstone], events: Sequence[HistoryEvent]) -> list[str]:
    """A tombstone without its event would be a way to make objects vanish unseen."""
    recorded = {event.to for event in events if event.kind == "forgotten"}
    return [
        f"object {short(digest)}…: has a tombstone, but no event says so; run the removal again"
        for digest in tombstones
        if digest not in recorded
    ]


def check_pointers(
    events: Sequence[HistoryEvent],
    releases: Sequence[ReleaseRow],
    aliases: Sequence[AliasRow],
    actions: Mapping[str, Digest],
    manifests: Mapping[Digest, Manifest],
    tombstones: Mapping[Digest, Tombstone],
) -> list[str]:
    """Compare the tables with the history, and follow every pointer to an object."""
    problems = []
    for row in releases:
        manifest = manifests.get(row.digest)
        if manifest is None and row.digest not in tombstones:
            problems.append(f"release {row.name}@{row.version}: object {short(row.digest)}… is missing or damaged")
        elif manifest is not None and manifest.kind != "release":
            problems.append(f"release {row.name}@{row.version}: object {short(row.digest)}… is a {manifest.kind}")
    listed = {(row.name, row.version, row.digest) for row in releases}
    told = {(e.name, e.detail.get("version"), e.to) for e in events if e.kind == "released"}
    problems += [f"release {name}@{version}: no event made it" for name, version, _ in sorted(listed - told, key=str)]
    problems += [f"release {name}@{version}: is gone from the catalog" for name, version, _ in sorted(told - listed, key=str)]
    problems += _alias_problems(events, aliases, manifests)
    for key, digest in sorted(actions.items()):
        if digest not in manifests and digest not in tombstones:
            problems.append(f"action {short(key)}…: its result {short(digest)}… is missing or damaged")
    return problems


def _alias_problems(
    events: Sequence[HistoryEvent], aliases: Sequence[AliasRow], manifests: Mapping[Digest, Manifest]
) -> list[str]:
    problems = []
    points = {(row.name, row.alias): row.digest for row in aliases}
    replayed = replay_aliases(events)
    for name, alias in sorted(points.keys() | replayed.keys()):
        here, there = points.get((name, alias)), replayed.get((name, alias))
        if here != there:
            shown = [short(digest) + "…" if digest else "nothing" for digest in (here, there)]
            problems.append(f"alias {name}@{alias}: points to {shown[0]}, the history says {shown[1]}")
        elif here not in manifests:
            problems.append(f"alias {name}@{alias}: release {short(here or '')}… is missing or damaged")
    return problems
