"""Deduplication, decontamination and splitting as one operation, because each needs what the others find.

    result = separate(rows, inheritance, section, tick)
    len(result.placed) + len(result.rejected) == len(rows)

Near-duplicates, rows of one prompt and rows that share the `group_by` column form a group; a group lies in one split.
Published test rows are looked at first, so that what leaks into them is found against them and not against each other.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tests.prepare.reference.dedupe import (
    CONFLICT,
    EXACT,
    LEAK,
    NEAR,
    Candidate,
    Fault,
    Says,
    Twin,
    answers_of,
    find_conflicts,
    find_exact,
    find_leaks,
    find_near,
    place_of,
    says,
)
from tests.prepare.reference.groups import Groups
from tests.prepare.reference.inherit import Inheritance
from tests.prepare.reference.lines import Placed
from tests.prepare.reference.split import Member, Shares, place, representative

from budwood.errors import DataError
from budwood.identity import short
from budwood.prepare.conflicts import Conflict, Judged, lines, near_conflicts
from budwood.prepare.row import SPLITS, Rejected, Row
from budwood.recipe import PrepareSection

if TYPE_CHECKING:
    from numpy import int64
    from numpy.typing import NDArray

OPERATIONS = {LEAK: 1, CONFLICT: 1, EXACT: 1, NEAR: 2}
"""Name → version of what this operation can do to a row, in order."""


@dataclass
class Separated:
    """The outcome.

    Args:
        placed: kept rows in the order they came in.
        rejected: the others, with rule and reason.
        flagged: rule → rows of published test files that it would have dropped.
        groups: figures for the snapshot's body.
        crowded: rows that had more look-alikes than the search compares with each.
        searched_by: what looked for near-duplicates; of no influence on the result.
        conflicts: every one, as `conflicts.jsonl` holds it.
        looks_alone: prompts of which answers differ in case or punctuation alone.
    """

    placed: list[Placed] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    flagged: Counter[str] = field(default_factory=Counter)
    groups: dict[str, int] = field(default_factory=dict)
    crowded: int = 0
    searched_by: str = ""
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    looks_alone: int = 0


def separate(rows: Sequence[Row], inheritance: Inheritance, section: PrepareSection, tick: Callable[[int], None]) -> Separated:
    """Place every row in a split, or reject it.

    Args:
        rows: as the rules left them; the last message of each is its answer.
        inheritance: what an earlier snapshot fixed.
        section: the recipe's [prepare].
        tick: called with the number of rows whose near-duplicates have been looked for.

    Raises:
        DataError: conflicts that are to stop the stage; a grouping column that no row has; a published test row that was
            trained on in the earlier snapshot.
    """
    work = _Work(rows, inheritance, section)
    work.find_duplicates(tick)
    work.join_columns()
    return work.place_groups()


class _Work:
    """Rows 0..n−1, then the ancestors that the new data no longer hold."""

    def __init__(self, rows: Sequence[Row], inheritance: Inheritance, section: PrepareSection) -> None:
        self.rows, self.section, self.inheritance = rows, section, inheritance
        self.said: list[Says] = [says(row) for row in rows]
        here = {said.key for said in self.said}
        self.absent = [ancestor for ancestor in inheritance.ancestors if ancestor.said.key not in here]
        self.all_said = [*self.said, *(ancestor.said for ancestor in self.absent)]
        self.groups = Groups(len(self.all_said))
        self.out: dict[int, Fault] = {}
        self.flags: dict[int, list[Fault]] = defaultdict(list)
        self.twins: dict[int, Twin] = {}
        self.judged = Judged((), 0)
        self.beside: list[Conflict] = []
        self.crowded = 0
        self.searched_by = ""

    def find_duplicates(self, tick: Callable[[int], None]) -> None:
        self._take(find_leaks(self.rows, self.said))
        answers = answers_of(self.rows, self.said, self.out)
        self.judged = find_conflicts(self.rows, answers, self.section.conflicts, self.section.labels)
        self._take({i: Fault(CONFLICT, conflict.reason) for conflict in self.judged.conflicts for i in conflict.out})
        self._take(find_exact(self.rows, self.said, self.out))
        left = [i for i in range(len(self.all_said)) if i not in self.out]
        prompts: dict[str, int] = {}
        for i in left:
            self.groups.join(i, prompts.setdefault(self.all_said[i].turns, i))
        # Those that stay come first: others are compared with them, and never the other way round.
        ranks = {"published": 0, "settled": 1, "free": 2}
        order = sorted(left, key=lambda i: ranks[self._candidate(i).role])
        found = find_near(order, self._candidate, self.groups, self.section.near_duplicate, tick)
        self.crowded, self.searched_by = found.crowded, found.by
        self.beside = near_conflicts(answers, self._groups_so_far(), self.section.labels)
        for i, twin in found.twins.items():
            if not self._published(i):
                self.twins[i] = twin
            elif all(fault.rule != EXACT for fault in self.flags[i]):
                self.flags[i].append(twin.fault)

    def _groups_so_far(self) -> "NDArray[int64]":
        import numpy

        return numpy.array([-1 if i in self.out else self.groups.of(i) for i in range(len(self.rows))], numpy.int64)

    def join_columns(self) -> None:
        column = self.section.group_by
        if not column:
            return
        slices = [*(row.slices for row in self.rows), *(ancestor.slices for ancestor in self.absent)]
        first: dict[str, int] = {}
        for i, values in enumerate(slices):
            value = values.get(column)
            if value is not None and value != "" and i not in self.out and i not in self.twins:
                self.groups.join(i, first.setdefault(str(value), i))
        if self.rows and not any(column in row.slices for row in self.rows):
            known = sorted({name for row in self.rows for name in row.slices})
            raise DataError(
                f'No row has the column "{column}". Columns: {", ".join(known) or "none"}.',
                where="[prepare] group_by",
                mend="Correct the name, or leave it empty.",
            )

    def place_groups(self) -> Separated:
        result = Separated(crowded=self.crowded, searched_by=self.searched_by, looks_alone=self.judged.looks_alone)
        result.conflicts = list(lines([*self.judged.conflicts, *self.beside], lambda i: place_of(self.rows[i])))
        placed: dict[int, Placed] = {}
        sizes: Counter[str] = Counter()
        shares = Shares(self.section.validation, self.section.test, self.section.split_seed)
        largest = 0
        trained_on: list[int] = []
        for indices in self.groups.members():
            indices = [i for i in indices if i not in self.out]
            members = [self._member(i) for i in indices]
            if not any(member.present for member in members):
                continue
            trained_on += [i for i, m in zip(indices, members, strict=True) if m.declared == "test" and _seen(m)]
            key = representative(self._texts(indices), shares.key)
            split, leaks = place(key, members, shares)
            self.out |= {indices[position]: Fault(LEAK, reason) for position, reason in leaks.items()}
            # A row goes as the twin of one that stays; where that one leaks, so does its whole side of the group.
            self.out |= {i: self.twins[i].fault for i in indices if i in self.twins and i not in self.out}
            kept = [i for i, m in zip(indices, members, strict=True) if m.present and i not in self.out]
            placed |= {i: Placed(self._flagged(i), key.hex()[:16], split) for i in kept}
            sizes[split] += bool(kept)
            largest = max(largest, len(kept))
        if trained_on:
            raise self._contaminated(trained_on)
        result.placed = [placed[i] for i in sorted(placed)]
        result.rejected = [self._rejected(i) for i in sorted(self.out)]
        result.flagged.update(fault.rule for faults in self.flags.values() for fault in faults)
        result.groups = {"count": sum(sizes.values()), "largest": largest} | {split: sizes[split] for split in SPLITS}
        return result

    def _published(self, i: int) -> bool:
        return i < len(self.rows) and self.rows[i].declared == "test"

    def _candidate(self, i: int) -> Candidate:
        if i >= len(self.rows):
            return Candidate(self.all_said[i], None, "settled")
        settled = self.inheritance.split_of(self.said[i]) is not None
        role: Literal["published", "settled", "free"] = "settled" if settled else "free"
        return Candidate(self.said[i], self.rows[i], "published" if self._published(i) else role)

    def _take(self, faults: dict[int, Fault]) -> None:
        for i, fault in faults.items():
            if self._published(i):
                self.flags[i].append(fault)
            else:
                self.out[i] = fault

    def _member(self, i: int) -> Member:
        if i >= len(self.rows):
            ancestor = self.absent[i - len(self.rows)]
            return Member(ancestor.row_id, "auto", ancestor.split, present=False)
        return Member(self.rows[i].row_id, self.rows[i].declared, self.inheritance.split_of(self.said[i]))

    def _texts(self, indices: Sequence[int]) -> list[bytes]:
        """Give what the group may be known by: its values of the grouping column where it has any, else its prompts."""
        column = self.section.group_by
        values = [self.rows[i].slices.get(column) for i in indices if i < len(self.rows)] if column else []
        named = [f"{column}={value}".encode() for value in values if value is not None and value != ""]
        return named or [self.all_said[i].prompt for i in indices]

    def _flagged(self, i: int) -> Row:
        row = self.rows[i]
        for fault in self.flags.get(i, ()):
            row = row.touch(fault.rule, "flagged", fault.reason)
        return row

    def _rejected(self, i: int) -> Rejected:
        row = self.rows[i]
        return Rejected(row.origin, self.out[i].rule, self.out[i].reason, row.messages, row.tools, row.slices)

    def _contaminated(self, indices: Sequence[int]) -> DataError:
        shown = ", ".join(str(self.rows[i].origin) for i in indices[:3])
        return DataError(
            f"{len(indices):,} published test rows were rows to learn or to choose by in snapshot "
            f"{short(self.inheritance.snapshot)}: {shown}{', …' if len(indices) > 3 else '.'}",
            mend="An adapter made from it has seen them. Use another test file, or prepare without that snapshot.",
        )


def _seen(member: Member) -> bool:
    return member.inherited in ("train", "validation")
