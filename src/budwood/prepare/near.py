"""Near-duplicates among the rows of a table: prompts at least `near_duplicate` alike, by true Jaccard.

Published rows are looked at first, then those that an earlier snapshot placed, then the rest: what stays is compared with
what came before it, and what goes is not compared with again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from budwood.prepare.columns import Table, taken
from budwood.prepare.spool import Place, Shelf
from budwood.prepare.texts import Texts
from budwood.text.near.entries import Entries, join_entries
from budwood.text.near.scheme import Scheme, make_scheme
from budwood.text.near.search import Terms, find_repeats

if TYPE_CHECKING:
    from numpy import bool_, dtype, float64, int64, uint32, uint64
    from numpy.typing import NDArray

PUBLISHED, OTHERS = 1, 2
"""Who repeats whom: published rows each other, free ones whatever is not published, settled ones nothing."""


@dataclass(frozen=True)
class Roles:
    """What the search knows of rows, (N,).

    Args:
        published: may only be flagged.
        settled: placed by an earlier snapshot, stay.
        present: False for a row that only an earlier snapshot holds: it joins groups and is nobody's twin.
    """

    published: "NDArray[bool_]"
    settled: "NDArray[bool_]"
    present: "NDArray[bool_]"


@dataclass(frozen=True)
class Twins:
    """Rows that repeat another in other words, that other, and how alike they are.

    Args:
        crowded: rows that had more look-alikes than are compared with each.
        by: what did the work.
    """

    rows: "NDArray[int64]"
    of: "NDArray[int64]"
    alike: "NDArray[float64]"
    crowded: int
    by: str


def find_near(
    table: Table,
    left: "NDArray[int64]",
    roles: Roles,
    parent: "NDArray[int64]",
    threshold: float,
    shelf: Shelf,
    texts: Texts,
    tick: Callable[[int, int], None],
) -> Twins:
    """Join what is near, and name for each row that may go (or be flagged) the first one before it that it repeats.

    Args:
        table: all rows.
        left: those that are still in, rising.
        roles: of all rows.
        parent: groups, joined along the way.
        threshold: [prepare] near_duplicate.
        shelf: where band keys and sketches are read.
        texts: reads what rows ask.
        tick: called with the number of rows done, and how many there are.
    """
    import numpy

    order = in_order(left, roles)
    terms = terms_of(order, roles, table.take_key("meaning")[order])
    found = find_repeats(
        _entries(table, order, make_scheme(threshold), shelf),
        terms,
        lambda place: texts.turns(int(order[place])),
        parent,
        tick=lambda done: tick(done, len(order)),
    )
    places = numpy.flatnonzero(found.twin >= 0)
    return Twins(order[places], order[found.twin[places]], found.alike[places], found.crowded, found.by)


def in_order(left: "NDArray[int64]", roles: Roles) -> "NDArray[int64]":
    """Rows as they are looked at: published ones, then settled ones, then the rest."""
    import numpy

    rank = numpy.where(roles.published, 0, numpy.where(roles.settled, 1, 2))[left]
    return left[numpy.argsort(rank, kind="stable")]


def terms_of(order: "NDArray[int64]", roles: Roles, meaning: "NDArray[uint64]") -> Terms:
    """Who may repeat whom among rows in that order; `meaning` is theirs, (N, 2)."""
    import numpy

    published, settled = roles.published[order], roles.settled[order]
    mine = numpy.where(published, PUBLISHED, OTHERS)
    return Terms(
        meaning=numpy.ascontiguousarray(meaning),
        asks=numpy.where(settled & ~published, 0, mine).astype(numpy.uint8),
        offers=numpy.where(roles.present[order], mine, 0).astype(numpy.uint8),
        goes=(~published & ~settled).astype(numpy.uint8),
        member=order,
    )


def _entries(table: Table, order: "NDArray[int64]", scheme: Scheme, shelf: Shelf) -> Entries:
    near = [batch.near for batch in table.batches]
    signed = _Spooled([one.signed for one in near], [len(one.kind) for one in near], scheme.bands.number, shelf)
    kind, number, is_short = (taken(near, name) for name in ("kind", "number", "is_short"))
    return join_entries(scheme, kind, number, is_short, signed, order)


@dataclass(frozen=True)
class _Spooled:
    """What `NearColumns.signed` names, column by column; `sizes` are the batches' entries."""

    places: Sequence[Place]
    sizes: Sequence[int]
    bands: int
    shelf: Shelf

    def band_keys(self, band: int) -> "NDArray[uint32]":
        import numpy

        return self._column(numpy.dtype(numpy.uint32), 4 * band)

    def sketches(self, half: int) -> "NDArray[uint64]":
        import numpy

        return self._column(numpy.dtype(numpy.uint64), 4 * self.bands + 8 * half)

    def _column(self, kind: "dtype[Any]", before: int) -> "NDArray[Any]":
        """Read a column; an entry has so many bytes before it."""
        import numpy

        column = numpy.empty(sum(self.sizes), kind)
        begin = 0
        for place, size in zip(self.places, self.sizes, strict=True):
            data = self.shelf.read(place.name, place.start + before * size, kind.itemsize * size)
            column[begin : begin + size] = numpy.frombuffer(data, kind)
            begin += size
        return column
