"""What has learnt from a snapshot's rows: runs, what they made, releases of that; later ones that went on from there too.

for use in trained_on(store, digest): print(use.kind, use.title, use.indirect)
for one in learners(store, [digest]): print(one.manifest.kind, one.digest)
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from budwood.data.rows import kept_rows
from budwood.identity import Digest
from budwood.store import Manifest, Store


@dataclass(frozen=True)
class Learner:
    """A run, an adapter or model, or a release.

    Args:
        digest: its digest.
        manifest: its manifest.
        read: the snapshot that it, or the run that it came from, read.
        indirect: it read none of them: it went on from an adapter or model, or was composed of releases, that had.
    """

    digest: Digest
    manifest: Manifest
    read: Digest
    indirect: bool


@dataclass(frozen=True)
class Use:
    """A run or a release.

    Args:
        digest: its digest.
        kind: run or release.
        title: method and steps of a run; name@version of a release, all of them where it has several.
        aliases: names that point to the release now.
        indirect: it did not read the snapshot: it went on from an adapter or model, or was composed of releases, that had.
        read: the snapshot that was read: this one, a selection of it, or what this one stands in the place of.
    """

    digest: Digest
    kind: Literal["run", "release"]
    title: str
    aliases: tuple[str, ...]
    indirect: bool
    read: Digest

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"aliases": list(self.aliases)}


def trained_on(store: Store, snapshot: Digest, *, row: str = "") -> list[Use]:
    """Walk from a snapshot down to everything that has learnt from its rows, nearest first.

    Args:
        store: the store.
        snapshot: a snapshot; what was selected from it, or stands or stood in its place, is followed too.
        row: id of one of its rows; what was made of the snapshot without that row is passed by. Empty: any row.
    """
    versions: dict[str, list[str]] = defaultdict(list)
    pointing: dict[str, list[str]] = defaultdict(list)
    for numbered in store.releases():
        versions[numbered.digest].append(f"{numbered.name}@{numbered.version}")
    for alias in store.aliases():
        pointing[alias.digest].append(f"{alias.name}@{alias.alias}")
    uses: list[Use] = []
    made = [one for one in successors(store, snapshot) if not row or _holds(store, one, row)]
    for one in learners(store, [snapshot, *replaced_by(store, snapshot), *made]):
        if one.manifest.kind == "run":
            uses.append(Use(one.digest, "run", _title(one.manifest), (), one.indirect, one.read))
        elif one.manifest.kind == "release":
            title = ", ".join(versions[one.digest]) or "not numbered"
            uses.append(Use(one.digest, "release", title, tuple(pointing[one.digest]), one.indirect, one.read))
    return uses


def learners(store: Store, snapshots: Iterable[Digest]) -> list[Learner]:
    """Walk from what was read down to all that came of it, nearest first; snapshots that are gone may be among them."""
    found: dict[Digest, Learner] = {}
    waiting = deque((run, read, False) for read in snapshots for run in _children(store, read, "run"))
    while waiting:
        digest, read, indirect = waiting.popleft()
        if digest in found:
            continue
        found[digest] = Learner(digest, store.manifest(digest), read, indirect)
        waiting += [(heir, read, indirect or further) for heir, further in _heirs(store, digest, found[digest].manifest)]
    return list(found.values())


def successors(store: Store, snapshot: Digest) -> list[Digest]:
    """List the snapshots that hold a part of this one's rows: selections, what is left of it without some, and theirs."""
    found: dict[Digest, None] = {}
    waiting = deque([snapshot])
    while waiting:
        above = waiting.popleft()
        for child in _children(store, above, "snapshot"):
            body = store.manifest(child).body
            made_of = (body.get("selection", {}).get("parent"), body.get("forgets", {}).get("of"))
            if child not in found and above in made_of:
                found[child] = None
                waiting.append(child)
    return list(found)


def replaced_by(store: Store, snapshot: Digest) -> list[Digest]:
    """List the snapshots that this one stands in the place of, which held its rows and those that were taken out."""
    stones = (stone for stone in store.tombstones() if stone.kind == "snapshot" and stone.successor is not None)
    return [stone.digest for stone in stones if store.current(stone.digest) == snapshot]


def _heirs(store: Store, digest: Digest, manifest: Manifest) -> Iterator[tuple[Digest, bool]]:
    """What holds what this one has learnt, and whether it went on learning from there.

    A release also names the one before it, whose rows it need not have seen: that is no inheritance.
    """
    if manifest.kind == "release":
        yield from ((run, True) for run in _children(store, digest, "run"))
        return
    if manifest.kind == "run":
        result = manifest.body.get("result")
        if result and store.exists(result):
            yield Digest(result), False
    for child in store.children(digest):
        held = store.manifest(child)
        if held.kind == "release":
            made = {held.body.get("run"), (held.body.get("result") or {}).get("digest")}
            if digest in made:
                yield child, False
        elif manifest.kind != "run" and held.kind == "run" and held.body.get("result") != digest:
            yield child, True
        elif manifest.kind != "run" and held.kind in ("adapter", "model"):
            yield child, False


def _children(store: Store, digest: Digest, kind: str) -> list[Digest]:
    return [child for child in store.children(digest) if store.manifest(child).kind == kind]


def _holds(store: Store, snapshot: Digest, row: str) -> bool:
    named = row.encode()
    return any(one.row_id == row for one in kept_rows(store, snapshot, worth=lambda line: named in line))


def _title(manifest: Manifest) -> str:
    body = manifest.body
    if body.get("method") == "compose":
        return f"composed of {len(body.get('sources', ()))} releases"
    return f"{body.get('method', '')}, {body.get('steps', 0):,} steps"
