"""The snapshot's card and body: its figures, from what came of every record.

Nothing in it depends on the clock, the machine or the folder.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budwood.prepare.columns import Batch
from budwood.prepare.encode import encode
from budwood.prepare.histograms import Histograms
from budwood.prepare.read import SourceFacts
from budwood.prepare.row import SPLITS
from budwood.prepare.separate import Separated
from budwood.prepare.verdicts import IN, RULES

if TYPE_CHECKING:
    from numpy import int8
    from numpy.typing import NDArray


CONFLICTS = "conflicts.jsonl"
"""Lists every prompt with different answers, where there is one."""


@dataclass(frozen=True)
class Tally:
    """How many records came to what.

    Args:
        splits: kept rows, by split.
        rejected: by rule.
        touched: kept rows, by (rule, kind).
        lengths: of each split, its rows' lengths in tokens; empty where they were not measured.
    """

    splits: Mapping[str, int]
    rejected: Mapping[str, int]
    touched: Mapping[tuple[str, str], int]
    lengths: Mapping[str, Mapping[str, int]]

    @property
    def kept(self) -> int:
        return sum(self.splits.values())

    @property
    def out(self) -> int:
        return sum(self.rejected.values())


def tally(batches: Sequence[Batch], separated: Separated) -> Tally:
    import numpy

    verdicts, split = separated.verdicts, separated.split
    splits: dict[str, int] = {which: int((split == place).sum()) for place, which in enumerate(SPLITS)}
    rejected: Counter[str] = Counter()
    touched: Counter[tuple[str, str]] = Counter()
    for batch in batches:
        rejected.update(batch.dropped)
    for why, count in enumerate(numpy.bincount(verdicts.why[: len(split)]).tolist()):
        if why != IN and count:
            rejected[RULES[why]] += count
    begin = 0
    for batch in batches:
        masks = batch.touched[split[begin : begin + len(batch)] >= 0]
        begin += len(batch)
        for bit, what in enumerate(batch.touches):
            touched[what] += int(((masks >> numpy.uint64(bit)) & numpy.uint64(1)).sum())
    for faults in verdicts.flags.values():
        touched.update((rule, "flagged") for rule in {RULES[fault.why] for fault in faults})
    return Tally(splits, rejected, touched, _lengths([batch.tokens for batch in batches], split))


def _lengths(tokens: Sequence["NDArray[Any]"], split: "NDArray[int8]") -> dict[str, dict[str, int]]:
    """Summarise token lengths by split; empty where they were not measured."""
    import numpy

    every = numpy.concatenate(tokens) if tokens else numpy.empty(0, numpy.int32)
    lengths: dict[str, dict[str, int]] = {}
    for place, which in enumerate(SPLITS):
        mine = numpy.sort(every[(split == place) & (every >= 0)])
        if len(mine):
            last = len(mine) - 1
            shares = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
            quantiles = {name: int(mine[round(share * last)]) for name, share in shares.items()}
            lengths[which] = {"rows": len(mine), "total": int(mine.sum(dtype=numpy.int64))} | quantiles
    return lengths


def make_body(
    *,
    name: str,
    sources: Sequence[SourceFacts],
    tallied: Tally,
    rules: Sequence[Mapping[str, Any]],
    groups: Mapping[str, Any],
    histograms: Histograms,
    onto: str,
    settings: Mapping[str, Any],
    conflicts: Sequence[Mapping[str, Any]],
    benchmarks: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Give the figures of a snapshot: what the manifest holds and the card prints."""
    kept, out = tallied.kept, tallied.out
    return {
        "name": name,
        "counts": {"read": kept + out, "kept": kept, "rejected": out} | dict(tallied.splits),
        "rejected_by": dict(sorted(tallied.rejected.items())),
        "rules": [dict(rule) for rule in rules],
        "sources": [facts.as_body() for facts in sources],
        "groups": dict(groups),
        "lengths": dict(tallied.lengths),
        "histograms": histograms.as_body(),
        "onto": onto,
        "settings": dict(settings),
        **({"conflicts": _conflicts(conflicts)} if conflicts else {}),
        **({"benchmarks": [dict(one) for one in benchmarks]} if benchmarks else {}),
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


def count_lengths(batches: Sequence[Batch], split: "NDArray[int8]", labels: Sequence[str]) -> Histograms:
    """Count how long kept rows are, and which answers they give."""
    counted = Histograms(labels)
    begin = 0
    for batch in batches:
        mine = split[begin : begin + len(batch)]
        begin += len(batch)
        for place, which in enumerate(SPLITS):
            kept = mine == place
            if kept.any():
                counted.add_many(which, batch.sizes[kept], batch.labels, batch.tokens[kept])
    return counted


def list_conflicts(path: Path, conflicts: Sequence[Mapping[str, Any]]) -> None:
    """Write every prompt with different answers, a line each, rows by id and place."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{encode(one)}\n" for one in conflicts)
