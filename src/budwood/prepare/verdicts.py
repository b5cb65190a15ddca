"""What was decided about each row, as numbers, and the words for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from budwood.prepare.columns import Table

if TYPE_CHECKING:
    from numpy import bool_, float64, int64, uint8
    from numpy.typing import NDArray

LEAK, CONFLICT, EXACT, NEAR, SEMANTIC = "leak", "conflict", "exact_duplicate", "near_duplicate", "semantic_duplicate"
IN, SAME_PROMPT, DIFFERENT, COPY, ALIKE, TORN, MEANT = range(7)
"""Why a row goes; `IN`: it stays."""
RULES = {SAME_PROMPT: LEAK, DIFFERENT: CONFLICT, COPY: EXACT, ALIKE: NEAR, TORN: LEAK, MEANT: SEMANTIC}


class Fault(NamedTuple):
    """Why a row goes, or is flagged: `other` is a row, or a place in `Verdicts.said`."""

    why: int
    other: int


@dataclass
class Verdicts:
    """Of each row of a table; (N,).

    Args:
        why: `IN`, or why it goes.
        other: the row that it repeats or leaks into, or a place in `said`.
        alike: how alike it is to that row.
        said: reasons that many rows share.
        flags: row → faults, in order; such rows stay. Published ones, and semantic duplicates that are only flagged.
    """

    why: "NDArray[uint8]"
    other: "NDArray[int64]"
    alike: "NDArray[float64]"
    said: list[str] = field(default_factory=list)
    flags: dict[int, list[Fault]] = field(default_factory=dict)

    @property
    def is_in(self) -> "NDArray[bool_]":
        mask: NDArray[bool_] = self.why == IN
        return mask

    def say(self, reason: str) -> int:
        self.said.append(reason)
        return len(self.said) - 1

    def take(self, rows: "NDArray[Any]", why: int, other: "NDArray[Any]", published: "NDArray[bool_]") -> None:
        """Put rows out, or flag those that are published."""
        flagged = published[rows]
        self.why[rows[~flagged]] = why
        self.other[rows[~flagged]] = other[~flagged]
        for row, one in zip(rows[flagged].tolist(), other[flagged].tolist(), strict=True):
            self.flags.setdefault(row, []).append(Fault(why, one))


def no_verdicts(count: int) -> Verdicts:
    import numpy

    return Verdicts(numpy.zeros(count, numpy.uint8), numpy.full(count, -1, numpy.int64), numpy.zeros(count))


@dataclass(frozen=True)
class Wording:
    """Says faults in words that name rows by id and place, and quote nothing."""

    table: Table
    verdicts: Verdicts
    paths: Sequence[str]

    def row_id(self, row: int) -> str:
        return f"{int(self.table.row_id[row]):016x}"

    def place(self, row: int) -> str:
        return f"{self.paths[self.table.source[row]]} line {int(self.table.line[row]):,}"

    def place_of(self, row: int) -> tuple[str, str, int]:
        """A row's id, the file that it is from, and its line there."""
        return self.row_id(row), self.paths[self.table.source[row]], int(self.table.line[row])

    def reason(self, row: int, fault: Fault) -> str:
        words: dict[int, Callable[[], str]] = {
            SAME_PROMPT: lambda: f"same prompt as test row {self.row_id(fault.other)}",
            COPY: lambda: f"same prompt and answer as row {self._named(fault.other)}",
            ALIKE: lambda: f"{self.verdicts.alike[row]:.2f} alike, with the same answer as row {self._named(fault.other)}",
            MEANT: lambda: f"{self.verdicts.alike[row]:.3f} alike in meaning to row {self._named(fault.other)}",
        }
        return words[fault.why]() if fault.why in words else self.verdicts.said[fault.other]

    def _named(self, row: int) -> str:
        return f"{self.row_id(row)} ({self.place(row)})"
