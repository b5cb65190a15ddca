"""The stage as it was before it became a stream: all rows as objects, everything decided row by row.

What it stores, the stream has to store, byte for byte.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tests.prepare.reference.inherit import load_inheritance
from tests.prepare.reference.read import STEP, read_sources
from tests.prepare.reference.separate import Separated, separate
from tests.prepare.reference.snapshot import CONFLICTS, Contents, write_lines, write_snapshot

from budwood.errors import DataError
from budwood.events import Event, Reporter, silent
from budwood.identity import Digest
from budwood.prepare.account import account, notes, settings
from budwood.prepare.conflicts import Conflicting
from budwood.prepare.guard import tally
from budwood.prepare.row import Drop, Rejected, Row, TokenLength
from budwood.prepare.rules.build import build_rules
from budwood.prepare.rules.contamination import Contamination
from budwood.prepare.rules.rule import Rule
from budwood.prepare.rules.tool_turns import ToolTurns
from budwood.prepare.snapshot import Tally
from budwood.prepare.stated import warning
from budwood.recipe import Recipe

if TYPE_CHECKING:
    from budwood.store import Store

VERSION = 6
"""Version of the stage: raise it when the same input would give another snapshot."""


def prepare(
    recipe: Recipe,
    store: "Store",
    *,
    token_length: TokenLength | None,
    context: int,
    onto: Digest | None = None,
    report: Reporter = silent,
) -> Digest:
    """Make the snapshot that a recipe describes.

    Args:
        recipe: sources and [prepare] are read, and the name.
        store: where the snapshot goes.
        token_length: messages → tokens of the row after the base's template; None leaves lengths unmeasured.
        context: the base's longest row in tokens; 0 when unknown.
        onto: an earlier snapshot whose rows keep their splits.
        report: told of progress.

    Raises:
        DataError: files or rows that cannot be used, or nothing left to train on. The store is as it was.
        RecipeError: rules or settings that cannot be used.
    """
    started = time.perf_counter()
    section = recipe.prepare
    rules = build_rules(section, folder=recipe.folder, token_length=token_length, context=context, sources=recipe.source)
    inheritance = load_inheritance(store, onto)
    read = read_sources(recipe.source, folder=recipe.folder, section=section, report=report)
    total = len(read.rows) + len(read.rejected)
    rows, dropped = _clean(read.rows, rules, report)
    try:
        result = separate(rows, inheritance, section, _ticker(len(rows), report))
    except Conflicting as fault:
        raise fault.listed_in(_list_conflicts(store, recipe.name, fault.lines)) from None
    rejected = [*read.rejected, *dropped, *result.rejected]
    if len(result.placed) + len(rejected) != total:
        raise AssertionError(f"{len(result.placed)} kept + {len(rejected)} rejected is not {total} read")
    _check_left(result, rejected, total)
    tallied = _tally(result, rejected)
    contents = Contents(
        name=recipe.name,
        sources=read.facts,
        placed=result.placed,
        rejected=rejected,
        rules=account(_at_work(rules, read.rows), tallied, section, None),
        groups=result.groups | {"by": section.group_by} | {"notes": notes(result, tallied, section)},
        onto=inheritance.snapshot,
        settings=settings(section),
        benchmarks=_benchmarks(rules, result, rejected),
        conflicts=result.conflicts,
    )
    seconds = time.perf_counter() - started
    attestation = {"seconds": seconds, "rows_per_s": total / max(seconds, 1e-9), "near_duplicates_by": result.searched_by}
    digest = write_snapshot(store, contents, attestation=attestation)
    unsaid = warning([facts.as_body() for facts in read.facts])
    if unsaid:
        report(Event("prepare", unsaid))
    summary = f"{len(result.placed):,} rows kept, {len(rejected):,} rejected"
    report(Event("prepare", summary, done=total, total=total, unit="rows"))
    return digest


def _list_conflicts(store: "Store", name: str, lines: Sequence[Mapping[str, Any]]) -> str:
    """Write all conflicts into the work folder, where a person may look at them; gives the path."""
    path = store.work(store.action("conflicts", VERSION, {"name": name}, [], 0)) / CONFLICTS
    write_lines(path, lines)
    return str(path)


def _benchmarks(rules: Sequence[Rule], result: Separated, rejected: Sequence[Rejected]) -> list[dict[str, Any]]:
    """Count by benchmark what its rule found."""
    guarding = next((rule for rule in rules if isinstance(rule, Contamination)), None)
    if guarding is None:
        return []
    dropped = (row.reason for row in rejected if row.rule == guarding.name)
    flagged = (touch.reason for placed in result.placed for touch in placed.row.touched if touch.rule == guarding.name)
    return tally(guarding.guard.benchmarks, dropped, flagged)


def _clean(rows: Sequence[Row], rules: Sequence[Rule], report: Reporter) -> tuple[list[Row], list[Rejected]]:
    kept: list[Row] = []
    dropped: list[Rejected] = []
    for done, row in enumerate(rows, start=1):
        outcome = _apply(row, rules)
        if isinstance(outcome, Row):
            kept.append(outcome)
        else:
            dropped.append(outcome)
        if done % STEP == 0 or done == len(rows):
            report(Event("prepare", "Cleaning", done=done, total=len(rows), unit="rows"))
    return kept, dropped


def _apply(row: Row, rules: Sequence[Rule]) -> Row | Rejected:
    for rule in rules:
        outcome = rule.apply(row)
        if isinstance(outcome, Drop):
            return Rejected(row.origin, outcome.rule or rule.name, outcome.reason, row.messages, row.tools, row.slices)
        row = outcome
    return row


def _ticker(total: int, report: Reporter) -> Callable[[int], None]:
    told = 0

    def tick(done: int) -> None:
        nonlocal told
        if done - told >= STEP:
            told = done
            report(Event("prepare", "Looking for near-duplicates", done=done, total=total, unit="rows"))

    return tick


def _check_left(result: Separated, rejected: Sequence[Rejected], total: int) -> None:
    if any(placed.split == "train" for placed in result.placed):
        return
    by_rule = Counter(row.rule for row in rejected).most_common()
    why = ", ".join(f"{count:,} by {rule}" for rule, count in by_rule) or "all went to validation and test"
    raise DataError(
        f"No row is left to train on: {total:,} read, {len(rejected):,} rejected ({why}).",
        mend="Look at the sources and at [prepare]; nothing was stored.",
    )


def _tally(result: Separated, rejected: Sequence[Rejected]) -> Tally:
    return Tally(
        splits=Counter(placed.split for placed in result.placed),
        rejected=Counter(row.rule for row in rejected),
        touched=Counter(kind for placed in result.placed for kind in {(t.rule, t.kind) for t in placed.row.touched}),
        lengths={},
    )


def _at_work(rules: Sequence[Rule], rows: Sequence[Row]) -> list[Rule]:
    """The rules that a snapshot tells of: without the one for tool calls where there are none, so that names stay."""
    return [rule for rule in rules if rule.name != ToolTurns.name or any(row.calls_tools for row in rows)]
