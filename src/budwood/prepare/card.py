"""The data card: what a person should know of a snapshot before training on it, in Markdown.

It says what is in the manifest's body and nothing else; what a source does not state is called "not stated".
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SPLIT_USE = {"train": "learning", "validation": "choices during training", "test": "the gate alone"}


def write_card(body: Mapping[str, Any]) -> str:
    counts = body["counts"]
    parts = [
        f"# Data card: {body['name']}",
        f"{counts['read']:,} rows read = {counts['kept']:,} kept + {counts['rejected']:,} rejected. Every rejected row is "
        "in `rejected.jsonl`, with rule and reason.",
        "## Splits",
        _table(["split", "rows", "groups", "used for"], _splits(body)),
        _groups(body),
        "## Sources",
        *map(_source, body["sources"]),
        "## What was done",
        _table(["rule", "version", "changed", "dropped", "flagged"], _rules(body["rules"])),
        "Changed and flagged count kept rows; dropped counts rejected ones.",
        *_conflicts(body),
        *_benchmarks(body),
        *_lengths(body["lengths"]),
        "## Personal data",
        _personal_data(body["rules"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _splits(body: Mapping[str, Any]) -> Iterable[Sequence[object]]:
    return [(split, f"{body['counts'][split]:,}", f"{body['groups'][split]:,}", use) for split, use in SPLIT_USE.items()]


def _groups(body: Mapping[str, Any]) -> str:
    groups = body["groups"]
    by = f', the same prompt or the same "{groups["by"]}"' if groups["by"] else " or the same prompt"
    text = (
        f"Near-duplicates{by} form a group, and a group lies in one split: {groups['count']:,} groups, "
        f"the largest of {groups['largest']:,} rows."
    )
    if body["onto"]:
        text += f" Rows of the earlier snapshot {body['onto'][:12]} kept their splits."
    return "\n".join([text, *(f"\n**Note.** {note}" for note in groups["notes"])])


def _source(source: Mapping[str, Any]) -> str:
    facts = [
        ("rows", f"{source['rows']:,}, of which {source['malformed']:,} could not be read"),
        ("read as", f"{source['layout']}, {source['shape']}, {source['encoding']}"),
        ("sha256", f"`{source['sha256']}`"),
        ("role", {"auto": "split by hash", "train": "never test", "test": "published test file"}[source["split"]]),
        ("origin", source["origin"] or "not stated"),
        ("licence, as declared", source["licence"] or "not stated"),
        ("cleaned before", source["cleaning"] or "not stated"),
        ("labelled", source["labelling"] or "not stated"),
        ("left out (nested values)", ", ".join(source["left_out"])),
    ]
    return "\n".join([f"### {_plain(source['path'])}\n", *(f"* {name}: {_plain(value)}" for name, value in facts if value)])


def _rules(rules: Iterable[Mapping[str, Any]]) -> Iterable[Sequence[object]]:
    return [tuple(rule[key] for key in ("name", "version", "changed", "dropped", "flagged")) for rule in rules]


def _conflicts(body: Mapping[str, Any]) -> list[str]:
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
        f"{figures['listed']:,} conflicts, {figures['of_labels']:,} of them of labels; `conflicts.jsonl` lists them by row.",
        "\n".join(f"* {figures[kind]:,} {words}" for kind, words in told.items() if figures[kind]),
    ]


def _benchmarks(body: Mapping[str, Any]) -> list[str]:
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
        _table(names, rows),
        f"Touched: rows of the file of whose prompt or answer a source's row held a share of {options['coverage']:g}"
        f"{', or 13 words in a row' if options['run'] else ''}, or whose short prompt it nearly repeats. Rows that repeat one "
        'of a published test file are counted as "leak" above.',
    ]


def _lengths(lengths: Mapping[str, Mapping[str, int]]) -> list[str]:
    if not lengths:
        return ["## Lengths", "Not measured: no tokenizer was given."]
    names = ["rows", "total", "min", "p50", "p90", "p99", "max"]
    rows = [[split, *(f"{figures[name]:,}" for name in names)] for split, figures in lengths.items()]
    return ["## Lengths, in tokens after the base's template", _table(["split", *names], rows)]


def _personal_data(rules: Iterable[Mapping[str, Any]]) -> str:
    rule = next((rule for rule in rules if rule["name"] == "pii"), None)
    if rule is None:
        return "Kept rows were not looked through for personal data. Rejected rows are redacted."
    done = {"redact": "redacted", "drop": "dropped with their rows", "flag": "flagged and left in"}[rule["options"]["action"]]
    return (
        f"Patterns for e-mail addresses, phone numbers, payment cards, IBANs, IP addresses and access keys: what they found "
        f"was {done}. Names and street addresses are not looked for. Rejected rows are redacted in any case."
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(map(_plain, row)) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def _plain(value: object) -> str:
    """Keep what a recipe says from becoming layout of the card."""
    return " ".join(str(value).replace("|", "\\|").replace("<", "&lt;").split())
