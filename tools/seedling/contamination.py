"""How much of a held-out benchmark is in the text that training drew: whole rows, and runs of eight words.

`measure` walks the very steps that were trained on. Rows count wherever they stand, inside a longer line too (see
blocklist.py). The benchmark file stays where it is.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.seedling.blocklist import Blocklist, build, normalise

RUN = 8  # words


@dataclass(frozen=True, slots=True)
class Overlap:
    """Counts over the text that was walked."""

    lines: int
    rows_found: int
    rows_hit: int
    runs_found: int

    def line(self) -> str:
        return (
            f"{self.lines} lines walked; {self.rows_found} times a row of the benchmark ({self.rows_hit} different rows); "
            f"{self.runs_found} lines hold a run of {RUN} words of one"
        )


def read_rows(folder: Path) -> set[str]:
    """Every text of every CSV file in the folder (first column), normalised; the header is no row."""
    rows: set[str] = set()
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows |= {normalise(row[0]) for row in list(csv.reader(file))[1:] if row}
    return rows - {""}


def measure(documents: Iterable[str], rows: set[str]) -> Overlap:
    blocklist: Blocklist = build(rows)
    runs = {run for row in rows for run in grams(row)}
    lines = found = with_runs = 0
    hit: set[str] = set()
    for document in documents:
        here = list(blocklist.found(document))
        found += len(here)
        hit.update(here)
        for line in re.split(r"<\|\w+\|>|\n", document):
            lines += bool(line.strip())
            with_runs += any(run in runs for run in grams(normalise(line)))
    return Overlap(lines, found, len(hit), with_runs)


def grams(normal: str) -> Iterator[str]:
    words = normal.split()
    return (" ".join(words[i : i + RUN]) for i in range(len(words) - RUN + 1))
