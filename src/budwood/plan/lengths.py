"""How long the rows are: what memory and time follow from."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self


class Tokens(Protocol):
    """A row as tokens (`engine.packed.Encoded`)."""

    @property
    def ids(self) -> Sequence[int]: ...

    @property
    def supervised(self) -> Sequence[bool]: ...


@dataclass(frozen=True)
class Lengths:
    """Token lengths of a snapshot's rows.

    Args:
        histogram: (length, rows), by length: the training rows.
        supervised: share of their tokens that count in the loss.
        validation_tokens: tokens of the validation rows.
    """

    histogram: tuple[tuple[int, int], ...]
    supervised: float
    validation_tokens: int

    @classmethod
    def of(cls, lengths: Iterable[int], *, supervised_tokens: int, validation_tokens: int = 0) -> Self:
        """Count rows by length."""
        counts = Counter(lengths)
        total = sum(length * rows for length, rows in counts.items())
        return cls(tuple(sorted(counts.items())), supervised_tokens / total if total else 0.0, validation_tokens)

    @property
    def rows(self) -> int:
        return sum(rows for _, rows in self.histogram)

    @property
    def tokens(self) -> int:
        return sum(length * rows for length, rows in self.histogram)

    @property
    def squares(self) -> int:
        """Sum of squared lengths: attention works on pairs of tokens of a row."""
        return sum(length * length * rows for length, rows in self.histogram)

    @property
    def longest(self) -> int:
        return self.histogram[-1][0] if self.histogram else 0

    def at(self, share: float) -> int:
        """Length that this share of the rows does not exceed."""
        seen = 0
        for length, rows in self.histogram:
            seen += rows
            if seen >= share * self.rows:
                return length
        return self.longest


def read_lengths(folder: Path, encode: Callable[[Any, Any], Tokens], *, most: int = 2_000) -> Lengths:
    """Measure a snapshot's rows: evenly spaced ones, each counted for its share.

    Args:
        folder: of the snapshot.
        encode: messages and tools → tokens, as training encodes them.
        most: rows that are measured of each split.
    """
    train, every = _sample(folder / "train.jsonl", encode, most)
    validation, each = _sample(folder / "validation.jsonl", encode, most)
    histogram: Counter[int] = Counter()
    for row in train:
        histogram[len(row.ids)] += every
    tokens = sum(len(row.ids) for row in train)
    supervised = sum(sum(row.supervised) for row in train)
    return Lengths(
        tuple(sorted(histogram.items())),
        supervised / tokens if tokens else 0.0,
        each * sum(len(row.ids) for row in validation),
    )


def _sample(path: Path, encode: Callable[[Any, Any], Tokens], most: int) -> tuple[list[Tokens], int]:
    """Give tokens of every n-th row, and n."""
    with path.open("rb") as file:
        lines = file.readlines()
    every = max(1, math.ceil(len(lines) / most))
    rows = map(json.loads, lines[::every])
    return [encode(row["messages"], row.get("tools", ())) for row in rows], every
