"""What a score gave for the rows of a split, and in which order it would take them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import float64, int64
    from numpy.typing import NDArray

    from budwood.data.rows import KeptRow

QUANTILES: Mapping[str, float] = {"min": 0, "p10": 0.1, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9, "max": 1}


@dataclass(frozen=True, slots=True)
class Place:
    """Which row a score is of, without its text."""

    row_id: str
    file: str
    line: int

    @classmethod
    def of(cls, row: "KeptRow") -> "Place":
        return cls(row.row_id, row.file, row.line)


@dataclass(frozen=True)
class Scored:
    """Scores of N rows, higher meaning "take it first".

    Args:
        by: name of the score.
        places: of each row.
        values: (N,); NaN where a row could not be scored.
        order: rows that have a score, the one to take first in front.
        unscored: row → why it has none.
        settings: what the scores depend on besides the rows, as JSON values.
    """

    by: str
    places: Sequence[Place]
    values: "NDArray[float64]"
    order: "NDArray[int64]"
    unscored: Mapping[int, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def mismatched(self) -> int:
        """Rows whose IFD is 1 or more: the prompt does not help to say the answer. 0 for other scores."""
        return int((self.values >= 1).sum()) if self.by == "ifd" else 0

    @property
    def why_unscored(self) -> dict[str, int]:
        return dict(sorted(Counter(self.unscored.values()).items()))

    def quantiles(self) -> dict[str, float]:
        """The distribution; each figure is a row's own score. Empty without scores."""
        import numpy

        ranked = numpy.sort(self.values[self.order])
        last = len(ranked) - 1
        return {name: rounded(ranked[round(share * last)]) for name, share in QUANTILES.items()} if len(ranked) else {}


def rounded(value: float) -> float:
    """To the digits that are kept on record: two machines agree on these, not on the last bits."""
    return round(float(value), 4)


def best_first(places: Sequence[Place], values: "NDArray[float64]") -> "NDArray[int64]":
    """Order rows by falling score; equal ones by row id, which says nothing about what they hold. NaN is left out."""
    import numpy

    ids = numpy.array([place.row_id for place in places])
    order = numpy.lexsort((ids, -values)) if len(places) else numpy.zeros(0, numpy.int64)
    return order[~numpy.isnan(values[order])]
