"""What was trained on rows that go: runs, their results, what was trained on from those or composed of them, releases."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from budwood.data.trained import learners, replaced_by
from budwood.identity import Digest
from budwood.store import AliasRow, ReleaseRow, Store


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
    """Follow rows to what was trained on them, also on what had them before other rows were taken out.

    Args:
        store: the store.
        rows: snapshot → split → rows that go.
    """
    learnt = {snapshot: counts["train"] for snapshot, counts in rows.items() if counts.get("train")}
    learnt |= {before: count for snapshot, count in learnt.items() for before in replaced_by(store, snapshot)}
    found = learners(store, learnt)
    runs = {
        one.digest: sum(learnt.get(parent, 0) for parent in one.manifest.parents) for one in found if one.manifest.kind == "run"
    }
    results = tuple(one.digest for one in found if one.manifest.kind in ("adapter", "model"))
    made = {one.digest for one in found if one.manifest.kind == "release"}
    releases = tuple(row for row in store.releases() if row.digest in made)
    return Trained(runs, results, releases, tuple(row for row in store.aliases() if row.digest in made))
