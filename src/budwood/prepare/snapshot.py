"""The snapshot's card and body: its figures, from what came of every record.

Nothing in it depends on the clock, the machine or the folder.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budwood.identity import digest_file
from budwood.prepare.card import write_card
from budwood.prepare.columns import Batch
from budwood.prepare.croissant import croissant
from budwood.prepare.read import SourceFacts
from budwood.prepare.row import SPLITS
from budwood.prepare.separate import Separated
from budwood.prepare.verdicts import IN, RULES

if TYPE_CHECKING:
    from numpy import int8
    from numpy.typing import NDArray


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
    onto: str,
    settings: Mapping[str, Any],
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
        "onto": onto,
        "settings": dict(settings),
    }


def write_cards(folder: Path, body: Mapping[str, Any]) -> None:
    """Put card and croissant beside the row files."""
    (folder / "card.md").write_text(write_card(body), encoding="utf-8", newline="\n")
    files = {path.name: digest_file(path) for path in sorted(folder.glob("*.jsonl"))}
    text = json.dumps(croissant(body, files), indent=2, ensure_ascii=False) + "\n"
    (folder / "croissant.json").write_text(text, encoding="utf-8", newline="\n")
