"""Deduplication, decontamination and splitting as one operation, because each needs what the others find.

    separated = separate(table, section, sources, shelf, tick, meaning)

Near-duplicates, rows of one prompt and rows that share the `group_by` column form a group; a group lies in one split.
Published test rows are looked at first, so that what leaks into them is found against them and not against each other.
Everything is arithmetic on columns; texts are read for the few rows whose likeness has to be verified.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from budwood.errors import DataError
from budwood.identity import short
from budwood.prepare.columns import Table
from budwood.prepare.conflicts import lines, near_conflicts
from budwood.prepare.duplicates import Sayings, answers_of, find_conflicts, find_copies, find_leaks, sayings
from budwood.prepare.groups import join_same, roots
from budwood.prepare.meaning import VERSION as MEANING
from budwood.prepare.meaning import Meaning
from budwood.prepare.near import Roles, Twins, find_near
from budwood.prepare.row import SPLITS, Declared
from budwood.prepare.same import first_among, first_same
from budwood.prepare.split import FREE, TEST, Members, Placed, Shares, place_groups
from budwood.prepare.spool import Shelf
from budwood.prepare.texts import Texts
from budwood.prepare.verdicts import (
    ALIKE,
    CONFLICT,
    COPY,
    EXACT,
    IN,
    LEAK,
    MEANT,
    NEAR,
    SEMANTIC,
    TORN,
    Fault,
    Verdicts,
    Wording,
    no_verdicts,
)
from budwood.recipe import PrepareSection

if TYPE_CHECKING:
    from numpy import bool_, int8, int64, uint8, uint64
    from numpy.typing import NDArray

OPERATIONS = {LEAK: 1, CONFLICT: 1, EXACT: 1, NEAR: 2, SEMANTIC: MEANING}
"""Name → version of what this operation can do to a row, in order; the last one where the recipe asks for it."""


@dataclass(frozen=True)
class Separated:
    """The outcome, for the new rows of a table; N of them.

    Args:
        split: place in `SPLITS`, or −1 for a row that is out, (N,).
        group: first eight bytes of its group's name, (N,).
        verdicts: why rows are out, or flagged.
        words: says it.
        groups: figures for the snapshot's body.
        crowded: rows that had more look-alikes than the search compares with each.
        searched_by: what looked for near-duplicates; of no influence on the result.
        conflicts: every one, as `conflicts.jsonl` holds it.
        looks_alone: prompts of which answers differ in case or punctuation alone.
    """

    split: "NDArray[int8]"
    group: "NDArray[uint64]"
    verdicts: Verdicts
    words: Wording
    groups: Mapping[str, int]
    crowded: int
    searched_by: str
    conflicts: Sequence[Mapping[str, Any]]
    looks_alone: int


@dataclass(frozen=True)
class Sources:
    """What is known of the sources, by number, and of their rows as a whole.

    Args:
        paths: as the recipe names them.
        declared: what each says of splits.
        columns: names of slices that any row has.
        onto: digest of the earlier snapshot, or empty.
    """

    paths: Sequence[str]
    declared: Sequence[Declared]
    columns: Sequence[str]
    onto: str


def separate(
    table: Table,
    section: PrepareSection,
    sources: Sources,
    shelf: Shelf,
    tick: Callable[[int, int], None],
    meaning: Meaning | None = None,
) -> Separated:
    """Place every row in a split, or put it out.

    Args:
        table: rows as the rules left them, then those of an earlier snapshot.
        section: the recipe's [prepare].
        sources: where they are from.
        shelf: the spools that hold their texts.
        tick: called with the number of rows whose near-duplicates have been looked for, and of all of them.
        meaning: looks for semantic duplicates; None: they are not looked for.

    Raises:
        DataError: conflicts that are to stop the stage; a grouping column that no row has; a published test row that was
            trained on in the earlier snapshot.
    """
    import numpy

    rows = table.rows
    said = sayings(table)
    fixed, absent = _inherited(table, said)
    new = numpy.arange(len(table)) < rows
    published = new & _is_declared(table, sources, "test")
    verdicts = no_verdicts(len(table))
    words = Wording(table, verdicts, sources.paths)
    find_leaks(said, published, new, verdicts)
    texts = Texts(table, shelf)
    answers = answers_of(said, published, verdicts, words, texts)
    judged = find_conflicts(answers, published, verdicts, section, words)
    find_copies(said, published, new, verdicts)
    left = numpy.flatnonzero(verdicts.is_in & (new | absent))
    parent = numpy.arange(len(table))
    parent[left] = first_among(said.turns, _mask(left, len(table)))[said.turns[left]]
    # The search that follows takes the most memory; what is known of equal rows is all used by now.
    del said
    roles = Roles(published, ~published & (fixed != FREE), new)
    found = find_near(table, left, roles, parent, section.near_duplicate, shelf, texts, tick)
    twins = _twins(found, ALIKE, published, verdicts)
    if meaning is not None:
        meant = meaning.find(left[twins[left] == IN], roles, parent, texts)
        only_flagged = section.semantic.action != "drop"
        twins |= _twins(meant, MEANT, published | only_flagged, verdicts)
    group = numpy.where(verdicts.is_in, roots(parent), -1)[:rows]
    conflicts = list(lines([*judged.conflicts, *near_conflicts(answers, group, section.labels)], words.place_of))
    if section.group_by:
        _check_column(section.group_by, sources.columns, rows)
        parent = _join_column(table, parent, verdicts.is_in & (twins == IN) & (new | absent))
    members = _Members(table, left, roots(parent), fixed, published, _is_declared(table, sources, "train"))
    return _placed(table, members, verdicts, twins, found, section, words, sources.onto, conflicts, judged.looks_alone)


def _inherited(table: Table, said: Sayings) -> "tuple[NDArray[int8], NDArray[bool_]]":
    """The split that an earlier snapshot fixed for each row, or `FREE`; and which of its rows are no longer there."""
    import numpy

    earlier = numpy.arange(len(table)) >= table.rows
    fixed = numpy.full(len(table), FREE, numpy.int8)
    # By what is said; of several that say the same the last one counts.
    fixed[said.whole[earlier]] = table.split[earlier]
    fixed = fixed[said.whole]
    return fixed, earlier & (said.whole >= table.rows)


def _is_declared(table: Table, sources: Sources, what: Declared) -> "NDArray[bool_]":
    import numpy

    # The last entry is an earlier snapshot's, whose number is −1.
    return numpy.array([*(one == what for one in sources.declared), False])[table.source]


def _mask(rows: "NDArray[int64]", count: int) -> "NDArray[bool_]":
    import numpy

    mask = numpy.zeros(count, numpy.bool_)
    mask[rows] = True
    return mask


def _twins(found: Twins, why: int, stays: "NDArray[bool_]", verdicts: Verdicts) -> "NDArray[uint8]":
    """Note twins: those that stay are flagged, the others may go; gives `why` for these and `IN` for all others."""
    import numpy

    is_flagged = stays[found.rows]
    goes = found.rows[~is_flagged]
    twins = numpy.full(len(stays), IN, numpy.uint8)
    twins[goes], verdicts.other[goes], verdicts.alike[goes] = why, found.of[~is_flagged], found.alike[~is_flagged]
    for place in numpy.flatnonzero(is_flagged).tolist():
        row = int(found.rows[place])
        flags = verdicts.flags.setdefault(row, [])
        if all(fault.why not in (COPY, ALIKE) for fault in flags):
            flags.append(Fault(why, int(found.of[place])))
            verdicts.alike[row] = found.alike[place]
    return twins


def _check_column(column: str, known: Sequence[str], rows: int) -> None:
    if rows and column not in known:
        raise DataError(
            f'No row has the column "{column}". Columns: {", ".join(sorted(known)) or "none"}.',
            where="[prepare] group_by",
            mend="Correct the name, or leave it empty.",
        )


def _join_column(table: Table, parent: "NDArray[int64]", among: "NDArray[bool_]") -> "NDArray[int64]":
    import numpy

    rows = numpy.flatnonzero(among & table.has_value)
    return join_same(parent, rows, rows[first_same(table.value[rows, :2])])


class _Members:
    """Rows that are in and those of the earlier snapshot that stand for their group, sorted by group, then by place."""

    def __init__(
        self,
        table: Table,
        left: "NDArray[int64]",
        root: "NDArray[int64]",
        fixed: "NDArray[int8]",
        published: "NDArray[bool_]",
        never_test: "NDArray[bool_]",
    ) -> None:
        import numpy

        present = left < table.rows
        # A group of which no row is there is none.
        living = _mask(root[left[present]], len(table))
        left = left[living[root[left]]]
        self.rows = rows = left[numpy.argsort(root[left], kind="stable")]
        self.starts = numpy.flatnonzero(numpy.diff(root[rows], prepend=-1))
        self.sizes = numpy.diff(self.starts, append=len(rows))
        own = numpy.where(published[rows], TEST, fixed[rows]).astype(numpy.int8)
        self.seen = published[rows] & (fixed[rows] != FREE) & (fixed[rows] != TEST)
        self.members = Members(self.starts, own, published[rows], never_test[rows], rows < table.rows)

    def names(self, table: Table) -> "tuple[NDArray[uint64], NDArray[uint64]]":
        """Of each group: the first half of its name, and its spot."""
        import numpy

        rows = self.rows
        group = numpy.repeat(numpy.arange(len(self.sizes)), self.sizes)
        name, spot = table.take_key("name")[rows], table.take_key("spot")[rows, 0]
        if len(table.has_value):
            # A group is known by its values of the grouping column where it has any, else by its prompts.
            valued = table.has_value[rows] & self.members.present
            by_value = numpy.bincount(group, valued, len(self.sizes)) > 0
            name = numpy.where(valued[:, None], table.value[rows, :2], name)
            spot = numpy.where(valued, table.value[rows, 2], spot)
            counts = valued | ~by_value[group]
            group, name, spot = group[counts], name[counts], spot[counts]
        order = numpy.lexsort((name[:, 1], name[:, 0], group))
        smallest = order[numpy.flatnonzero(numpy.diff(group[order], prepend=-1))]
        return name[smallest, 0], spot[smallest]


def _placed(
    table: Table,
    held: _Members,
    verdicts: Verdicts,
    twins: "NDArray[uint8]",
    found: Twins,
    section: PrepareSection,
    words: Wording,
    onto: str,
    conflicts: Sequence[Mapping[str, Any]],
    looks_alone: int,
) -> Separated:
    import numpy

    if held.seen.any():
        raise _contaminated(held.rows[held.seen], words, onto)
    name, spot = held.names(table)
    placed = place_groups(held.members, spot, Shares(section.validation, section.test, section.split_seed))
    _put_out_leaks(held, placed, verdicts, words)
    # A row goes as the twin of one that stays; where that one leaks, so does its whole side of the group.
    goes = verdicts.is_in & (twins != IN)
    verdicts.why[goes] = twins[goes]
    # What is flagged and goes for another reason needs no flag.
    for row in [row for row in verdicts.flags if not verdicts.is_in[row]]:
        del verdicts.flags[row]
    group = numpy.repeat(numpy.arange(len(held.sizes)), held.sizes)
    kept = held.members.present & verdicts.is_in[held.rows]
    sizes = numpy.bincount(group[kept], minlength=len(held.sizes))
    split = numpy.full(table.rows, FREE, numpy.int8)
    split[held.rows[kept]] = placed.split[group[kept]]
    names = numpy.zeros(table.rows, numpy.uint64)
    names[held.rows[kept]] = name[group[kept]]
    counts = {which: int(((placed.split == place) & (sizes > 0)).sum()) for place, which in enumerate(SPLITS)}
    figures = {"count": sum(counts.values()), "largest": int(sizes.max(initial=0))} | counts
    return Separated(split, names, verdicts, words, figures, found.crowded, found.by, conflicts, looks_alone)


def _put_out_leaks(held: _Members, placed: Placed, verdicts: Verdicts, words: Wording) -> None:
    import numpy

    group = numpy.repeat(numpy.arange(len(held.sizes)), held.sizes)
    behind = " of the earlier snapshot, and its source is never test"
    for goes, more in ((placed.torn, ""), (placed.barred, behind)):
        places = numpy.flatnonzero(goes)
        # Members are sorted by group, so those of one lie together.
        which, begins = numpy.unique(group[places], return_index=True)
        for one, members in zip(which.tolist(), numpy.split(held.rows[places], begins[1:]), strict=False):
            strongest = words.row_id(int(held.rows[placed.strongest[one]]))
            verdicts.why[members] = TORN
            verdicts.other[members] = verdicts.say(f"same group as {SPLITS[placed.split[one]]} row {strongest}{more}")


def _contaminated(rows: "NDArray[int64]", words: Wording, onto: str) -> DataError:
    shown = ", ".join(map(words.place, rows[:3].tolist()))
    return DataError(
        f"{len(rows):,} published test rows were rows to learn or to choose by in snapshot "
        f"{short(onto)}: {shown}{', …' if len(rows) > 3 else '.'}",
        mend="An adapter made from it has seen them. Use another test file, or prepare without that snapshot.",
    )
