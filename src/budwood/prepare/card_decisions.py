"""What the card says of decisions about whole rows: conflicts, benchmarks that must not be trained on, and a selection."""

from collections.abc import Mapping
from typing import Any

from budwood.prepare.card_table import table
from budwood.text.counted import counted


def conflicts(body: Mapping[str, Any]) -> list[str]:
    if "conflicts" not in body:
        return []
    figures = body["conflicts"]
    policy = {
        "majority": "the majority's answer stays, and none where there is no majority",
        "drop": "all of them are dropped",
        "keep": "all of them stay",
    }.get(body["settings"]["conflicts"], "the stage would have stopped")
    told = {
        "rows": f"among rows: {policy}",
        "test_rows": "within published test files: flagged, and all stay",
        "rows_and_test_rows": "between rows and a published test file: its rows stay, the others go as leaks",
        "near": "groups of near-duplicates with labels that disagree: nothing is dropped for it, the prompts are not the same",
    }
    return [
        "## One prompt, different answers",
        f"{counted(figures['listed'], 'conflict')}, {figures['of_labels']:,} of them of labels; `conflicts.jsonl` lists them "
        "by row.",
        "\n".join(f"* {figures[kind]:,} {words}" for kind, words in told.items() if figures[kind]),
    ]


def benchmarks(body: Mapping[str, Any]) -> list[str]:
    """Say of each file that must not be trained on how much of it stood in the sources."""
    if "benchmarks" not in body:
        return []
    rule = next(rule for rule in body["rules"] if rule["name"] == "contamination")
    options = rule["options"]
    names = ["file", "rows", "touched", "by 13 words in a row", "by coverage", "by likeness", "rows dropped", "rows flagged"]
    rows = []
    for one in body["benchmarks"]:
        touched = [f"{one['touched'][kind]:,}" for kind in ("any", "run", "coverage", "alike")]
        name = f"{one['name']} (published test file)" if one["published"] else one["name"]
        rows.append([name, f"{one['rows']:,}", *touched, f"{one['dropped']:,}", f"{one['flagged']:,}"])
    return [
        "## Benchmarks and test files that must not be trained on",
        table(names, rows),
        f"Touched: rows of the file of whose prompt or answer a source's row held a share of {options['coverage']:g}"
        f"{', or 13 words in a row' if options['run'] else ''}, or whose short prompt it nearly repeats. Rows that repeat one "
        'of a published test file are counted as "leak" above.',
    ]


def selection(body: Mapping[str, Any]) -> list[str]:
    """How the train rows were chosen among those of an earlier snapshot; see `budwood.data.select`."""
    chosen = body.get("selection")
    if chosen is None:
        return []
    text = (
        f"{chosen['kept']:,} of {chosen['of']:,} train rows of snapshot {chosen['parent'][:12]} were chosen by "
        f"{chosen['by']} (asked for: {chosen['top']}). The others are in `rejected.jsonl` under the rule `select`, as "
        "they were when they were kept. Validation and test are those of that snapshot."
    )
    figures = [("all", chosen["scores"]), ("chosen", chosen["scores_kept"])]
    names = list(chosen["scores"])
    figured = table(["rows", *names], [[rows, *(found[name] for name in names)] for rows, found in figures])
    notes = [f"{count:,} rows could not be scored: {why}." for why, count in chosen["unscored"].items()]
    if chosen["by"] == "ifd":
        done = "left out" if chosen["without_mismatched"] else "chosen where their rank was high enough"
        notes.append(f"{chosen['mismatched']:,} rows have an IFD of 1 or more, prompt and answer mismatched; they were {done}.")
    return ["## Selection", text, figured, *notes]
