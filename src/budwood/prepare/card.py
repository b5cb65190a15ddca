"""The data card: what a person should know of a snapshot before training on it, in Markdown.

It says what is in the manifest's body and nothing else; what a source does not state is called "not stated", and listed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from budwood.prepare.card_decisions import benchmarks, conflicts, selection
from budwood.prepare.card_table import plain, table
from budwood.prepare.histograms import EDGES
from budwood.prepare.row import SPLITS
from budwood.prepare.stated import limits, personal_data, unstated
from budwood.text.counted import counted

SPLIT_USE = {"train": "learning", "validation": "choices during training", "test": "the gate alone"}
ROLES = {"auto": "split by hash", "train": "never test", "test": "published test file"}
NOT_STATED = "not stated"
BAR = 24
"""Characters of the longest bar."""
_MEASURED = {
    "tokens": "Rows, in tokens after the base's template",
    "prompt_characters": "Prompts, in characters",
    "answer_characters": "Answers, in characters",
}


def write_card(body: Mapping[str, Any]) -> str:
    counts = body["counts"]
    parts = [
        f"# Data card: {plain(body['name'])}",
        f"{counted(counts['read'], 'row')} read = {counts['kept']:,} kept + {counts['rejected']:,} rejected"
        f"{_forgotten(counts)}. Every rejected row is in `rejected.jsonl`, with rule and reason.",
        *_not_stated(body["sources"]),
        "## Splits",
        table(["split", "rows", "groups", "used for"], _splits(body)),
        _groups(body),
        "## Sources",
        *map(_source, body["sources"]),
        "## What was done",
        table(["rule", "version", "options", "changed", "dropped", "flagged"], _rules(body["rules"])),
        "In the order in which rows passed them. Changed and flagged count kept rows; dropped counts rejected ones.",
        *conflicts(body),
        *benchmarks(body),
        *selection(body),
        *_lengths(body),
        *_labels(body["histograms"]["labels"]),
        "## Known limits",
        "\n".join(f"* {said}" for said in limits(body)),
        "## Personal data",
        personal_data(body["rules"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _not_stated(sources: Iterable[Mapping[str, Any]]) -> list[str]:
    silent = [f"* {plain(source['path'])}: {', '.join(words)}" for source in sources if (words := unstated(source))]
    if not silent:
        return []
    return [
        "## What is not stated",
        "**Warning.** Nobody can answer for what is missing here; it is stated under `[[source]]` in the recipe.",
        "\n".join(silent),
    ]


def _forgotten(counts: Mapping[str, int]) -> str:
    """Rows that were taken out on request, after this data had been prepared; see `budwood.data.forget`."""
    return f" + {counts['forgotten']:,} removed on request since" if counts.get("forgotten") else ""


def _splits(body: Mapping[str, Any]) -> Iterable[Sequence[object]]:
    return [(split, f"{body['counts'][split]:,}", f"{body['groups'][split]:,}", use) for split, use in SPLIT_USE.items()]


def _groups(body: Mapping[str, Any]) -> str:
    groups = body["groups"]
    by = f', the same prompt or the same "{groups["by"]}"' if groups["by"] else " or the same prompt"
    text = (
        f"Near-duplicates{by} form a group, and a group lies in one split: {counted(groups['count'], 'group')}, "
        f"the largest of {counted(groups['largest'], 'row')}."
    )
    if body["onto"]:
        text += f" Rows of the earlier snapshot {body['onto'][:12]} kept their splits."
    return "\n".join([text, *(f"\n**Note.** {note}" for note in groups["notes"])])


def _source(source: Mapping[str, Any]) -> str:
    licence = f"declared: {source['licence'] or NOT_STATED}; verified: {source['licence_verified'] or 'not verified'}"
    facts = [
        ("rows", f"{source['rows']:,}, of which {source['malformed']:,} could not be read"),
        ("read as", f"{source['layout']}, {source['shape']}, {source['encoding']}"),
        ("sha256", f"`{source['sha256']}`"),
        ("role", ROLES[source["split"]]),
        ("weight", f"{source['weight']:g}" if source["weight"] != 1 else ""),
        ("origin", source["origin"] or NOT_STATED),
        ("licence", licence),
        ("cleaned before", source["cleaning"] or NOT_STATED),
        ("labelling assumptions", source["labelling"] or NOT_STATED),
        ("left out (nested values)", ", ".join(source["left_out"])),
    ]
    return "\n".join([f"### {plain(source['path'])}\n", *(f"* {name}: {plain(value)}" for name, value in facts if value)])


def _rules(rules: Iterable[Mapping[str, Any]]) -> Iterable[Sequence[object]]:
    for rule in rules:
        options = ", ".join(f"{name} = {_option(value)}" for name, value in rule["options"].items())
        yield rule["name"], rule["version"], options, *(f"{rule[key]:,}" for key in ("changed", "dropped", "flagged"))


def _option(value: object) -> str:
    """A setting in a cell: digests by their first digits, long lists by their length, what has a name by that."""
    if isinstance(value, Mapping) and "name" in value:
        return str(value["name"])
    if isinstance(value, list):
        return f"{len(value)} values" if len(value) > 8 else ", ".join(map(_option, value)) or "none"
    if isinstance(value, str):
        return value[:12] if len(value) == 64 else value or "none"
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def _lengths(body: Mapping[str, Any]) -> list[str]:
    parts = ["## Lengths"]
    if body["lengths"]:
        names = ["rows", "total", "min", "p50", "p90", "p99", "max"]
        rows = [[split, *(f"{figures[name]:,}" for name in names)] for split, figures in body["lengths"].items()]
        parts += ["In tokens after the base's template:", table(["split", *names], rows)]
    else:
        parts.append("Not measured: no tokenizer was given.")
    for measured, title in _MEASURED.items():
        if measured in body["histograms"]:
            parts += [f"### {title}", _histogram(body["histograms"][measured])]
    return parts


def _histogram(splits: Mapping[str, Sequence[tuple[int, int]]]) -> str:
    """Draw the bins of all splits, longest bar for the fullest."""
    bins: dict[int, dict[str, int]] = {}
    for split, counts in splits.items():
        for low, count in counts:
            bins.setdefault(low, {})[split] = count
    totals = {low: sum(by.values()) for low, by in sorted(bins.items())}
    fullest = max(totals.values())
    rows = [
        [_range(low), *(f"{bins[low].get(split, 0):,}" for split in SPLITS), "█" * -(-total * BAR // fullest)]
        for low, total in totals.items()
    ]
    return table(["length", *SPLITS, ""], rows)


def _range(low: int) -> str:
    place = EDGES.index(low)
    high = EDGES[place + 1] - 1 if place + 1 < len(EDGES) else None
    if high is None:
        return f"{low:,} and more"
    return f"{low:,}" if high == low else f"{low:,} to {high:,}"


def _labels(labels: Mapping[str, Any] | None) -> list[str]:
    if labels is None:
        return []
    rows = [[label or "(empty)", *(f"{count:,}" for count in counts)] for label, *counts in labels["rows"]]
    others = labels["others"]
    more = f" Not listed: {others['labels']:,}, with {others['rows']:,} rows." if others["labels"] else ""
    parts = ["## Labels", f"{labels['different']:,} different answers.{more}"]
    return [*parts, table(["answer", *SPLITS], rows)] if rows else parts
