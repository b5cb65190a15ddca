"""Rows → the snapshot object: files, card and body. Nothing in it depends on the clock, the machine or the folder.

digest = write_snapshot(store, contents)
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.prepare.reference.lines import Placed, as_json, rejected_as_json

from budwood.identity import Digest
from budwood.prepare.describe import describe
from budwood.prepare.histograms import Histograms, measure
from budwood.prepare.lengths import summarise_lengths
from budwood.prepare.read import SourceFacts
from budwood.prepare.row import SPLITS, Rejected
from budwood.text.pii import redact

if TYPE_CHECKING:
    from budwood.store import Store


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


CONFLICTS = "conflicts.jsonl"
"""Lists every prompt with different answers, where there is one; a line each, rows by id and place."""


@dataclass(frozen=True)
class Contents:
    """All that a snapshot is made of."""

    name: str
    sources: Sequence[SourceFacts]
    placed: Sequence[Placed]
    rejected: Sequence[Rejected]
    rules: Sequence[Mapping[str, Any]]
    groups: Mapping[str, Any]
    onto: str
    settings: Mapping[str, Any]
    benchmarks: Sequence[Mapping[str, Any]] = ()
    conflicts: Sequence[Mapping[str, Any]] = ()


def write_snapshot(store: "Store", contents: Contents, *, attestation: Mapping[str, Any]) -> Digest:
    """Store a snapshot; the same contents give the same digest, and are stored once."""
    body = make_body(contents)
    with store.draft("snapshot") as draft:
        for split in SPLITS:
            rows = (as_json(placed) for placed in contents.placed if placed.split == split)
            write_lines(draft.folder / f"{split}.jsonl", rows)
        rejected = sorted(contents.rejected, key=lambda row: _order(contents.sources, row))
        write_lines(draft.folder / "rejected.jsonl", (rejected_as_json(row, _redacted) for row in rejected))
        if contents.conflicts:
            write_lines(draft.folder / CONFLICTS, contents.conflicts)
        describe(draft.folder, body)
        return draft.commit(parents=[], body=body, attestation=dict(attestation))


def make_body(contents: Contents) -> dict[str, Any]:
    """Give the figures of a snapshot: what the manifest holds and the card prints."""
    splits = Counter(placed.split for placed in contents.placed)
    reasons = Counter(row.rule for row in contents.rejected)
    kept = len(contents.placed)
    return {
        "name": contents.name,
        "counts": {"read": kept + len(contents.rejected), "kept": kept, "rejected": len(contents.rejected)}
        | {split: splits[split] for split in SPLITS},
        "rejected_by": dict(sorted(reasons.items())),
        "rules": [dict(rule) for rule in contents.rules],
        "sources": [facts.as_body() for facts in contents.sources],
        "groups": dict(contents.groups),
        "lengths": _lengths(contents.placed),
        "histograms": _histograms(contents),
        "onto": contents.onto,
        "settings": dict(contents.settings),
        **({"conflicts": _conflicts(contents.conflicts)} if contents.conflicts else {}),
        **({"benchmarks": [dict(one) for one in contents.benchmarks]} if contents.benchmarks else {}),
    }


def _conflicts(listed: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    between = Counter(one["between"] for one in listed if one["prompts"] == "same")
    return {
        "listed": len(listed),
        "of_labels": sum(one["kind"] == "label" for one in listed),
        "rows": between["rows"],
        "test_rows": between["test rows"],
        "rows_and_test_rows": between["rows and test rows"],
        "near": sum(one["prompts"] == "near" for one in listed),
    }


def _lengths(placed: Sequence[Placed]) -> dict[str, dict[str, int]]:
    """Summarise token lengths by split; empty where they were not measured."""
    found = {split: [p.row.tokens for p in placed if p.split == split and p.row.tokens is not None] for split in SPLITS}
    return {split: summarise_lengths(tokens) for split, tokens in found.items() if tokens}


def _histograms(contents: Contents) -> dict[str, Any]:
    counted = Histograms(contents.settings["labels"])
    for placed in contents.placed:
        counted.add(placed.split, measure(placed.row.messages), placed.row.tokens)
    return counted.as_body()


def write_lines(path: Path, values: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for value in values:
            file.write(_ENCODER.encode(value) + "\n")


def _order(sources: Sequence[SourceFacts], row: Rejected) -> tuple[int, int]:
    files = [facts.sha256 for facts in sources]
    return files.index(row.origin.sha256), row.origin.line


def _redacted(text: str) -> str:
    return redact(text).text
