"""Snapshot → page."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from budwood.data.report.changes import Changes, remake
from budwood.data.report.gather import Gathered, gather
from budwood.data.report.mirror import Comparison, compare
from budwood.data.report.production import PRODUCTION, Production, read_production
from budwood.events import Event, Reporter, silent
from budwood.identity import Digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from budwood.recipe import Recipe
    from budwood.store import Store


@dataclass(frozen=True)
class Facts:
    """What every part of the page reads: the manifest's body, what was found in the rows, and what was compared."""

    digest: Digest
    body: "Mapping[str, Any]"
    found: Gathered
    changes: Changes
    comparisons: "Sequence[Comparison]"
    production: Production | None
    recipe: "Recipe | None"

    @property
    def held_out(self) -> str:
        """The split that stands for what is held out: test, or validation where there is no test."""
        return "test" if self.body["counts"]["test"] or not self.body["counts"]["validation"] else "validation"


def make_facts(
    store: "Store",
    snapshot: Digest,
    *,
    recipe: "Recipe | None" = None,
    production: Path | None = None,
    report: Reporter = silent,
) -> Facts:
    """Find out all that the page says.

    Args:
        store: where the snapshot lies.
        snapshot: the object.
        recipe: the one that it was made from; None: rows are not shown as they were before.
        production: a log of prompts.
        report: told of progress.

    Raises:
        StoreError: not a snapshot, or its rows cannot be read.
        DataError: the log cannot be read.
        RecipeError: rules that cannot be built.
    """
    log = read_production(production, recipe) if production else None
    found = gather(store, snapshot, report)
    body = store.manifest(snapshot).body
    report(Event("report", "Making sampled rows again from their sources"))
    changes = remake(found.changed, body, recipe)
    facts = Facts(snapshot, body, found, changes, (), log, recipe)
    comparisons = []
    for first, second in _pairs(facts):
        report(Event("report", f"Comparing {second} with {first}"))
        sides = {**found.prompts, **({PRODUCTION: log.prompts} if log else {})}
        comparisons.append(compare((first, second), sides.get(first, ()), sides.get(second, ())))
    return Facts(snapshot, body, found, changes, comparisons, log, recipe)


def _pairs(facts: Facts) -> list[tuple[str, str]]:
    pairs = [("train", split) for split in ("validation", "test") if facts.body["counts"][split]]
    return [*pairs, (facts.held_out, PRODUCTION)] if facts.production else pairs
