"""What is known of many rows as columns of numbers: all that is held in memory of a row while it is decided on.

A piece's worker makes a `Batch`; `join_batches` lays those of all pieces end to end. A row takes some 150 bytes and its
entries in the search for near-duplicates, whatever its length.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from budwood.prepare.split import FREE
from budwood.prepare.spool import Place

if TYPE_CHECKING:
    from numpy import bool_, int8, int32, int64, uint8, uint32, uint64
    from numpy.typing import NDArray

KEYS = ("prompt", "answer", "turns", "meaning", "name", "spot")
"""What a row says, as keys of 16 bytes; then the name that its prompt gives a group, and where that lies (8 bytes)."""
KEY_BYTES = 88
VALUE_BYTES = 24
"""Of the name that its value of the grouping column gives, and where that lies; zeros where it has none."""
KINDS_OF_TOUCH = 64
READ = "read"
"""The name under which reading rejects, and records what it changed."""


@dataclass
class NearColumns:
    """A batch's entries in the search for near-duplicates; M entries. The search takes all but the place.

    Args:
        kind: (M,).
        number: entries of each row, (N,).
        is_short: (N,).
        signed: where the band keys lie, (bands, M) of uint32, and behind them the sketches, (2, M) of uint64.
    """

    kind: "NDArray[uint8]"
    number: "NDArray[int8]"
    is_short: "NDArray[uint8]"
    signed: Place


@dataclass
class Batch:
    """One piece's outcome: R records, N of them rows that are still in. `join_batches` takes the larger columns out of it.

    Args:
        source: number of the source; of an earlier snapshot's rows −1.
        row_id: (N,).
        line: (N,).
        keys: see `KEYS`, (N, 11).
        value: of the grouping column: name and spot, (N, 3), or (0, 3) without one.
        has_value: (N,), or (0,).
        tokens: −1 where not measured, (N,).
        touched: bit k: touched in the way `touches[k]`, (N,).
        touches: (rule, kind) of the bits.
        sizes: characters of prompt and answer, and the answer's place in `labels` or −1, (N, 3).
        live: whether a record is a row that is still in, (R,).
        lengths: bytes of a row's two halves in `lines`, or of a rejected record's line and 0, (R, 2).
        lines: where they lie, in order.
        text_ends: where in `texts` the turns of each row begin and end, (N + 1,).
        texts: where the turns lie as UTF-8, in order.
        near: entries.
        rows: N, also when the columns have been taken out.
        dropped: rule → records that it rejected.
        labels: answers that may be labels.
        told: reasons of the rule that guards benchmarks: the row that it flagged, or −1 for a record that is out.
        malformed: line and reason of the first few that could not be read.
        slices, left_out: names in order of appearance.
        columns: names of slices among rows that are still in.
        has_tools, calls_tools: whether any row that was read has schemas; holds calls or results.
        split: of an earlier snapshot's rows, (N,); else (0,).
    """

    source: int
    row_id: "NDArray[uint64]"
    line: "NDArray[int64]"
    keys: "NDArray[uint64]"
    value: "NDArray[uint64]"
    has_value: "NDArray[bool_]"
    tokens: "NDArray[int32]"
    touched: "NDArray[uint64]"
    touches: Sequence[tuple[str, str]]
    sizes: "NDArray[int32]"
    live: "NDArray[bool_]"
    lengths: "NDArray[uint32]"
    lines: Place
    text_ends: "NDArray[int64]"
    texts: Place
    near: NearColumns
    split: "NDArray[int8]"
    rows: int
    dropped: Counter[str] = field(default_factory=Counter)
    labels: Sequence[str] = ()
    told: Sequence[tuple[int, str]] = ()
    malformed: Sequence[tuple[int, str]] = ()
    slices: Sequence[str] = ()
    left_out: Sequence[str] = ()
    columns: Sequence[str] = ()
    has_tools: bool = False
    calls_tools: bool = False

    @property
    def records(self) -> int:
        return len(self.live)

    @property
    def unread(self) -> int:
        """Records that could not be read."""
        return self.dropped[READ]

    def __len__(self) -> int:
        return self.rows


@dataclass(frozen=True)
class Table:
    """All rows that are still in, in their order, then those of an earlier snapshot; N in all.

    Args:
        rows: how many are new.
        first: row with which each batch begins, (batches + 1,).
        keys: columns of `KEYS` that have not been taken yet.
    """

    batches: Sequence[Batch]
    rows: int
    first: "NDArray[int64]"
    source: "NDArray[int32]"
    row_id: "NDArray[uint64]"
    line: "NDArray[int64]"
    keys: dict[str, "NDArray[uint64]"]
    value: "NDArray[uint64]"
    has_value: "NDArray[bool_]"
    split: "NDArray[int8]"

    def __len__(self) -> int:
        return len(self.row_id)

    def take_key(self, name: str) -> "NDArray[uint64]":
        """A key's column, (N, 2), or (N, 1) for the spot; it is given up, since each is looked at once."""
        return self.keys.pop(name)


def join_batches(new: Sequence[Batch], earlier: Sequence[Batch]) -> Table:
    """Lay batches end to end; the columns that the table holds are taken out of them, so that nothing is held twice."""
    import numpy

    batches = [*new, *earlier]
    sizes = numpy.array([len(batch) for batch in batches], numpy.int64)
    rows = sum(map(len, new))
    first = numpy.concatenate([numpy.zeros(1, numpy.int64), numpy.cumsum(sizes)])
    source = numpy.repeat(numpy.array([batch.source for batch in batches], numpy.int32), sizes)
    split = numpy.full(int(first[-1]), FREE, numpy.int8)
    split[rows:] = taken(earlier, "split")
    whole = taken(batches, "keys")
    keys = {name: whole[:, 2 * place : 2 * place + 2].copy() for place, name in enumerate(KEYS)}
    del whole
    named = {name: taken(batches, name) for name in ("line", "value", "has_value", "row_id")}
    return Table(batches=batches, rows=rows, first=first, source=source, split=split, keys=keys, **named)


def taken(batches: Sequence[object], name: str) -> "NDArray[Any]":
    """Lay columns of this name end to end, and take them out of where they were."""
    import numpy

    parts = [getattr(batch, name) for batch in batches]
    whole: NDArray[Any] = numpy.concatenate(parts) if parts else numpy.empty(0)
    for batch, part in zip(batches, parts, strict=True):
        setattr(batch, name, part[:0])
    return whole
