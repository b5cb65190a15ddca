"""What came of some of a piece's records, in their order: columns and finished halves of lines, of which a batch is made.

Those that are plain come from `plain`, all others from rows; `in_order` lays both together.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, fields
from itertools import chain
from typing import TYPE_CHECKING, Any

from budwood.prepare.encode import Halves, encode_rejected, encode_row, plain_encoder
from budwood.prepare.histograms import LONGEST_LABEL, measure
from budwood.prepare.keys import keys_of
from budwood.prepare.keys.find import keys_of_pairs
from budwood.prepare.piece import SourceView
from budwood.prepare.plain import PlainRows
from budwood.prepare.row import Rejected, Row, Scalar, Touch, row_ids
from budwood.recipe import PrepareSection

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass
class Done:
    """R records of which N are rows that are still in; arrays of R or N, as said.

    Args:
        line: the line of each record, (R,).
        live: whether it is a row that is still in, (R,).
        halves: of its line, of a rejected one the line and nothing, R.
        row_id: digits of each row, N.
        keys: (N, KEY_BYTES).
        turns: what each row asks, normalised, N.
        tokens: None where not measured, N.
        sizes: characters of prompt and answer, (N, 2).
        labels: answers that may be labels, else None, N.
        values: of the grouping column, N, or none without one.
        names: names of each row's slices, N.
        read_names: the same as they were read, R.
        touched: what touched each row, N.
    """

    line: "NDArray[Any]"
    live: "NDArray[Any]"
    halves: Sequence[Halves]
    row_id: Sequence[str]
    keys: "NDArray[Any]"
    turns: Sequence[bytes]
    tokens: Sequence[int | None]
    sizes: "NDArray[Any]"
    labels: Sequence[str | None]
    values: Sequence[bytes | None]
    names: Sequence[tuple[str, ...]]
    read_names: Sequence[tuple[str, ...]]
    touched: Sequence[tuple[Touch, ...]]


OF_RECORDS = ("line", "live", "halves", "read_names")


def of_outcomes(
    outcomes: Sequence[Row | Rejected],
    read: Sequence[Row | Rejected],
    section: PrepareSection,
    redact: Callable[[str], str],
    *,
    encoded: bool = True,
) -> Done:
    """Key what came of records, and encode it unless told otherwise; `read` is how they came to the rules."""
    import numpy

    rows = [row for row in outcomes if isinstance(row, Row)]
    keyed = keys_of(rows, section.split_seed)
    measured = [measure(row.messages) for row in rows]
    return Done(
        line=numpy.fromiter((one.origin.line for one in outcomes), numpy.int64, len(outcomes)),
        live=numpy.array([isinstance(one, Row) for one in outcomes], numpy.bool_),
        halves=[_halves(one, redact) for one in outcomes] if encoded else [],
        read_names=[tuple(one.slices) if isinstance(one, Row) else () for one in read],
        row_id=[row.row_id for row in rows],
        keys=keyed.keys,
        turns=keyed.turns,
        tokens=[row.tokens for row in rows],
        touched=[row.touched for row in rows],
        sizes=numpy.array([one[:2] for one in measured], numpy.int32).reshape(-1, 2),
        labels=[one.label for one in measured],
        values=[value_of(row.slices, section.group_by) for row in rows] if section.group_by else [],
        names=[tuple(row.slices) for row in rows],
    )


def _halves(outcome: Row | Rejected, redact: Callable[[str], str]) -> Halves:
    return encode_row(outcome) if isinstance(outcome, Row) else Halves(encode_rejected(outcome, redact), b"")


def of_plain(
    found: PlainRows,
    places: Sequence[int],
    tokens: Sequence[int | None],
    first: int,
    source: SourceView,
    section: PrepareSection,
) -> Done:
    """Key and encode plain rows that every rule leaves, at these places; `first` is the number of the piece's first line."""
    import numpy

    at = numpy.array(places, numpy.int64)
    line = found.line[at] + first
    starts, sizes = found.said_at[:-1][at], found.sizes[at]
    begins = numpy.stack([starts, starts + sizes[:, 0] + 1], axis=1)
    ends = (begins + sizes).ravel()
    keyed = keys_of_pairs(found.said.encode("ascii"), begins.ravel(), ends, section.split_seed)
    numbers = line.tolist()
    row_id = row_ids(source.sha256, numbers)
    every = found.names()
    names = [every[place] for place in places]
    slices = [found.slices[start:end] for start, end in numpy.stack([found.slices_at[at], found.slices_at[at + 1]], 1).tolist()]
    return Done(
        line=line,
        live=numpy.ones(len(at), numpy.bool_),
        halves=list(_encoded(found, at, row_id, numbers, slices, tokens, source)),
        read_names=names,
        row_id=row_id,
        keys=keyed.keys,
        turns=keyed.turns,
        tokens=tokens,
        touched=[()] * len(at),
        sizes=sizes.astype(numpy.int32),
        labels=_labels(found, begins[:, 1], sizes[:, 1]),
        values=[value_of(json.loads(b"{%b}" % held), section.group_by) for held in slices] if section.group_by else [],
        names=names,
    )


def _encoded(
    found: PlainRows,
    at: "NDArray[Any]",
    row_id: Sequence[str],
    numbers: Sequence[int],
    slices: Sequence[bytes],
    tokens: Sequence[int | None],
    source: SourceView,
) -> Iterator[Halves]:
    encode, data = plain_encoder(source.path, source.sha256, source.weight), found.data
    for name, number, held, count, (asked, asked_end, answered, end) in zip(
        row_id, numbers, slices, tokens, found.raw[at].tolist(), strict=True
    ):
        yield encode(name.encode(), data[asked:asked_end], data[answered:end], number, held, count)


def _labels(found: PlainRows, begins: "NDArray[Any]", sizes: "NDArray[Any]") -> list[str | None]:
    import numpy

    labels: list[str | None] = [None] * len(begins)
    for place in numpy.flatnonzero(sizes <= LONGEST_LABEL).tolist():
        labels[place] = found.said[begins[place] : begins[place] + sizes[place]]
    return labels


def in_order(parts: Sequence[Done]) -> Done:
    """Lay parts of one piece together, by their lines."""
    import numpy

    if len(parts) == 1:
        return parts[0]
    records = numpy.argsort(numpy.concatenate([part.line for part in parts]), kind="stable")
    rows = numpy.argsort(numpy.concatenate([part.line[part.live] for part in parts]), kind="stable")

    def laid(field: Field[Any]) -> Any:
        order = records if field.name in OF_RECORDS else rows
        held = [getattr(part, field.name) for part in parts]
        if isinstance(held[0], numpy.ndarray):
            return numpy.concatenate(held)[order]
        every = list(chain.from_iterable(held))
        # Values are of all rows, or of none.
        return [every[place] for place in order.tolist()] if every else []

    return Done(**{field.name: laid(field) for field in fields(Done)})


def value_of(slices: Mapping[str, Scalar], column: str) -> bytes | None:
    """The value by which a row is grouped."""
    value = slices.get(column)
    return None if value is None or value == "" else f"{column}={value}".encode()
