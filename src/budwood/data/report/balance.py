"""How often which value occurs in which split, as long as there are few."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

MOST_VALUES = 300
MOST_COLUMNS = 30
LONGEST = 80
"""Characters of a value; longer ones are texts and not values."""


@dataclass
class Balance:
    """Counts by value and split; given up (`many`) when there are too many values, or long ones."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    many: bool = False

    def add(self, split: str, value: str) -> None:
        if self.many:
            return
        if value not in self.counts and (len(value) > LONGEST or len(self.counts) >= MOST_VALUES):
            self.many = True
            self.counts.clear()
            return
        self.counts.setdefault(value, Counter())[split] += 1

    @property
    def rows(self) -> int:
        return sum(count.total() for count in self.counts.values())

    @property
    def tells(self) -> bool:
        """Whether values come back: nearly as many values as rows are texts."""
        return not self.many and len(self.counts) > 1 and 2 * len(self.counts) <= self.rows

    def totals(self) -> Counter[str]:
        """Count the rows of each split."""
        return sum(self.counts.values(), Counter())


def missing(there: Balance, at: str, here: Balance, beside: str, share: float) -> Mapping[str, float]:
    """List the values that make up at least `share` of one split and do not occur in another, most frequent first."""
    if there.many or here.many:
        return {}
    total = there.totals()[at]
    gone = {v: count[at] / total for v, count in there.counts.items() if total and not _count(here, v, beside)}
    return dict(sorted(((v, s) for v, s in gone.items() if s >= share), key=lambda one: (-one[1], one[0])))


@dataclass
class Columns:
    """A balance for each column, for the first columns."""

    by_name: dict[str, Balance] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)

    def add(self, split: str, name: str, value: object) -> None:
        if name not in self.by_name and len(self.by_name) >= MOST_COLUMNS:
            self.left_out.add(name)
            return
        self.by_name.setdefault(name, Balance()).add(split, _written(value))


def _written(value: object) -> str:
    if isinstance(value, str):
        return value
    return "(none)" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _count(balance: Balance, value: str, split: str) -> int:
    return balance.counts[value][split] if value in balance.counts else 0
