"""What was trained on rows that go: runs, their results, what was trained on from those or composed of them, releases."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from budwood.identity import Digest
from budwood.store import AliasRow, Kind, ReleaseRow, Store

MADE: tuple[Kind, ...] = ("run", "adapter", "model")


@dataclass(frozen=True)
class Trained:
    """Weights cannot be made to forget; they are named.

    Args:
        runs: run → rows of its training split that go; 0 where only what it started from was trained on them.
        results: adapters and models that came of them.
        releases: that answer with one of those.
        live: aliases that point to one of these releases.
    """

    runs: Mapping[Digest, int] = field(default_factory=dict)
    results: tuple[Digest, ...] = ()
    releases: tuple[ReleaseRow, ...] = ()
    live: tuple[AliasRow, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "runs": dict(self.runs),
            "results": list(self.results),
            "releases": [f"{row.name}@{row.version}" for row in self.releases],
            "live": [f"{row.name}@{row.alias}" for row in self.live],
        }


def find_trained(store: Store, rows: Mapping[Digest, Mapping[str, int]]) -> Trained:
    """Follow rows to what was trained on them.

    Args:
        store: the store.
        rows: snapshot → split → rows that go.
    """
    learnt = {snapshot: counts["train"] for snapshot, counts in rows.items() if counts.get("train")}
    above = {digest: store.manifest(digest) for kind in MADE for digest in store.objects(kind)}
    runs: dict[Digest, int] = {}
    results: dict[Digest, None] = {}
    changed = bool(learnt)
    while changed:
        changed = False
        for digest, manifest in above.items():
            count = sum(learnt.get(parent, 0) for parent in manifest.parents)
            inherits = any(parent in results for parent in manifest.parents)
            if manifest.kind == "run" and digest not in runs and (count or inherits):
                runs[digest] = count
                results |= {Digest(str(manifest.body["result"])): None} if manifest.body.get("result") else {}
                changed = True
            elif manifest.kind != "run" and digest not in results and inherits:
                results[digest] = None
                changed = True
    bodies = {row.digest: store.manifest(row.digest).body for row in store.releases() if store.exists(row.digest)}
    releases = [row for row in store.releases() if row.digest in bodies and _result(bodies[row.digest]) in results]
    live = [row for row in store.aliases() if row.digest in {release.digest for release in releases}]
    return Trained(runs, tuple(results), tuple(releases), tuple(live))


def _result(body: Mapping[str, Any]) -> str:
    return str((body.get("result") or {}).get("digest", ""))
