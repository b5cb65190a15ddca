"""What was trained on a snapshot: its runs, and the releases that were made of them; later ones that went on from there too.

for use in trained_on(store, digest): print(use.kind, use.title, use.indirect)
"""

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any, Literal

from budwood.identity import Digest
from budwood.store import Manifest, Store


@dataclass(frozen=True)
class Use:
    """A run or a release.

    Args:
        digest: its digest.
        kind: run or release.
        title: method and steps of a run; name@version of a release, all of them where it has several.
        aliases: names that point to the release now.
        indirect: it did not read the snapshot: it went on from an adapter or model, or was composed of releases, that had.
    """

    digest: Digest
    kind: Literal["run", "release"]
    title: str
    aliases: tuple[str, ...]
    indirect: bool

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"aliases": list(self.aliases)}


def trained_on(store: Store, snapshot: Digest) -> list[Use]:
    """Walk from a snapshot down to everything that has learnt from its rows, nearest first."""
    versions: dict[str, list[str]] = defaultdict(list)
    pointing: dict[str, list[str]] = defaultdict(list)
    for row in store.releases():
        versions[row.digest].append(f"{row.name}@{row.version}")
    for alias in store.aliases():
        pointing[alias.digest].append(f"{alias.name}@{alias.alias}")
    found: dict[Digest, Use] = {}
    waiting = [(child, False) for child in _children(store, snapshot, "run")]
    while waiting:
        digest, indirect = waiting.pop(0)
        if digest in found:
            continue
        manifest = store.manifest(digest)
        if manifest.kind == "run":
            found[digest] = Use(digest, "run", _title(manifest), (), indirect)
        else:
            found[digest] = Use(
                digest, "release", ", ".join(versions[digest]) or "not numbered", tuple(pointing[digest]), indirect
            )
        waiting += [(heir, indirect or kind == "run") for heir, kind in _heirs(store, digest, manifest)]
    return list(found.values())


def _heirs(store: Store, digest: Digest, manifest: Manifest) -> list[tuple[Digest, str]]:
    """What learnt from what a run or release had learnt: releases of a run, and runs that took its result further.

    A release also names the one before it, whose rows it need not have seen: that is no inheritance.
    """
    if manifest.kind == "release":
        return [(run, "run") for run in _children(store, digest, "run")]
    made = [(one, "release") for one in _children(store, digest, "release") if store.manifest(one).body.get("run") == digest]
    own = manifest.body.get("result")
    further = _children(store, own, "run") if own else []
    return made + [(run, "run") for run in further if store.manifest(run).body.get("result") != own]


def _children(store: Store, digest: Digest, kind: str) -> list[Digest]:
    return [child for child in store.children(digest) if store.manifest(child).kind == kind]


def _title(manifest: Manifest) -> str:
    body = manifest.body
    if body.get("method") == "compose":
        return f"composed of {len(body.get('sources', ()))} releases"
    return f"{body.get('method', '')}, {body.get('steps', 0):,} steps"
