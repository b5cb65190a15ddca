"""How much of a held-out benchmark is in the generated text: whole rows, and runs of eight words.

Both sides are normalised to lower-case words. `collect` finds the fingerprints to block before training; `measure` walks
the very steps that were trained on. The benchmark file stays where it is: only fingerprints of our own lines are kept.
"""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.seedling.service import draft, fingerprint, grams, normalise, situations


@dataclass(frozen=True, slots=True)
class Overlap:
    """Counts over the text that was walked."""

    pieces: int
    rows_found: int
    rows_hit: int
    runs_found: int

    def line(self) -> str:
        return (
            f"{self.pieces} lines walked; {self.rows_found} equal a row ({self.rows_hit} different rows); "
            f"{self.runs_found} hold an 8-word run of one"
        )


def read_rows(folder: Path) -> set[str]:
    """Every text of every CSV file in the folder (first column), normalised."""
    rows: set[str] = set()
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows |= {normalise(row[0]) for row in csv.reader(file) if row}
    return rows


def lines_of(document: str) -> Iterator[tuple[str, ...]]:
    """Each turn or line of a document: as it stands, and without its list mark or the label behind it."""
    for piece in re.split(r"<\|\w+\|>|\n| / ", document):
        bare = re.sub(r"^(?:\w+[:.)]|-) |( ->.*)$", "", piece)
        if piece.strip():
            yield tuple(dict.fromkeys((normalise(piece), normalise(bare))))


def measure(documents: Iterable[str], rows: set[str]) -> Overlap:
    runs = {run for row in rows for run in grams(row)}
    pieces = found = with_runs = 0
    hit: set[str] = set()
    for document in documents:
        for forms in lines_of(document):
            pieces += 1
            equal = rows.intersection(forms)
            hit |= equal
            found += bool(equal)
            with_runs += any(run in runs for run in grams(forms[0]))
    return Overlap(pieces, found, len(hit), with_runs)


def collect(rows: set[str], *, seed: int, draws: int) -> list[str]:
    """Fingerprints of drawn messages that equal a row or share a run of eight words with one."""
    rng = random.Random(f"{seed}:collect")
    runs = {run for row in rows for run in grams(row)}
    found: set[str] = set()
    for number in range(draws):
        normal = normalise(draft(rng, rng.choice(situations()), plain=number % 4 > 0).text)
        if normal in rows:
            found.add(fingerprint(normal))
        found |= {fingerprint(run) for run in grams(normal) if run in runs}
    return sorted(found)
