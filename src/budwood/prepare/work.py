"""What a process does with one piece: read, clean, key, sign, encode, and put the finished lines into its spool.

    work = Work(Order(...), "0")
    batch = work.piece(piece)
    batch = work.ancestors(lines, split)

Nothing that it gives depends on which process did it, but the names of the spools.
"""

import json
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budwood.prepare.clean import clean
from budwood.prepare.columns import KEY_BYTES, KINDS_OF_TOUCH, VALUE_BYTES, Batch, NearColumns
from budwood.prepare.convert import row_of
from budwood.prepare.encode import encode_rejected, encode_row
from budwood.prepare.finish import Fates, Finisher
from budwood.prepare.histograms import measure
from budwood.prepare.keys import keys_of, named
from budwood.prepare.piece import Piece
from budwood.prepare.records import Record, read_records
from budwood.prepare.row import SPLITS, Message, Origin, Rejected, Row, TokenLength
from budwood.prepare.rules.build import build_rules
from budwood.prepare.rules.contamination import Contamination
from budwood.prepare.shapes import left_out_keys
from budwood.prepare.spool import Place, Spool
from budwood.prepare.told import SPOOL, Told
from budwood.recipe import PrepareSection, SourceSection
from budwood.text.near.pack import pack_encoded
from budwood.text.near.scheme import make_scheme
from budwood.text.near.sign import sign_pack
from budwood.text.pii import redact

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHOWN_FAULTS = 3
"""Malformed records of a piece that are named in errors."""
EARLIER = -1
"""The number of an earlier snapshot among sources."""


@dataclass(frozen=True)
class Order:
    """What every process has to know.

    Args:
        section: the recipe's [prepare].
        sources: the recipe's.
        folder: the recipe's.
        token_length: see `prepare`; goes to other processes as it is.
        context: see `prepare`.
        scratch: where spools lie.
        result: where the snapshot's files lie.
        told: files of languages told before; see `prepare.told`.
    """

    section: PrepareSection
    sources: Sequence[SourceSection]
    folder: Path
    token_length: TokenLength | None
    context: int
    scratch: Path
    result: Path
    told: tuple[Path, ...] = ()


class Work:
    """One process's rules and spools; `name` tells its spools from those of others."""

    def __init__(self, order: Order, name: str) -> None:
        self._section = order.section
        self._languages = Spool(order.scratch, f"{SPOOL}{name}")
        self._told = Told(order.told, self._languages)
        self._rules = build_rules(
            order.section,
            folder=order.folder,
            token_length=order.token_length,
            context=order.context,
            sources=order.sources,
            tell=self._told,
        )
        self._scheme = make_scheme(order.section.near_duplicate)
        self._lines = Spool(order.scratch, f"lines-{name}")
        self._texts = Spool(order.scratch, f"texts-{name}")
        self._bands = Spool(order.scratch, f"bands-{name}")
        self._finisher = Finisher(order.scratch, order.result)

    def close(self) -> None:
        for spool in (self._lines, self._texts, self._bands, self._languages):
            spool.close()
        self._finisher.close()

    def copy(self, fates: Fates) -> bytes:
        """Write a batch's kept rows where they go, and give the lines of those rejected."""
        return self._finisher.copy(fates)

    def piece(self, piece: Piece) -> Batch:
        """Do all that one row needs without the others.

        Raises:
            BudwoodError: a rule that is to stop the stage, at the first row of the piece that makes it.
        """
        records = list(read_records(piece.content, piece.first))
        read = [row_of(record, piece.source, self._section) for record in records]
        outcomes = clean(read, self._rules)
        rows = [row for row in outcomes if isinstance(row, Row)]
        if self._section.language != "off":
            self._told.confirm(_contents(rows), _contents(row for row in outcomes if isinstance(row, Rejected)), _redacted)
        lines, lengths = _encoded(outcomes)
        batch = self._batch(rows, piece.source.number)
        batch.live, batch.lengths = _flags([isinstance(row, Row) for row in outcomes]), lengths
        batch.lines = self._lines.add(b"".join(lines))
        batch.tokens = _tokens(rows)
        batch.touched, batch.touches = _touches(rows)
        batch.told = _told(outcomes, {rule.name for rule in self._rules if isinstance(rule, Contamination)})
        batch.sizes, batch.labels = _sizes(rows)
        batch.dropped = Counter(row.rule for row in outcomes if isinstance(row, Rejected))
        broken = [row for row in read if isinstance(row, Rejected)]
        batch.malformed = [(row.origin.line, row.reason) for row in broken[:SHOWN_FAULTS]]
        whole = [(row, record) for row, record in zip(read, records, strict=True) if isinstance(row, Row)]
        batch.slices = list(dict.fromkeys(name for row, _ in whole for name in row.slices))
        batch.left_out = list(
            dict.fromkeys(
                key
                for _, record in whole
                if isinstance(record, Record)
                for key in left_out_keys(record.value, piece.source.shape)
            )
        )
        batch.columns = list(dict.fromkeys(name for row in rows for name in row.slices))
        batch.has_tools = any(row.tools for row, _ in whole)
        batch.calls_tools = any(row.calls_tools for row, _ in whole)
        return batch

    def ancestors(self, lines: bytes) -> Batch:
        """Key and sign rows of an earlier snapshot, given as it holds them."""
        import numpy

        # A rejected row has a split only where a selection left it out later: it keeps its side.
        values = [value for value in map(json.loads, lines.splitlines()) if value.get("split") is not None]
        rows = list(map(ancestor, values))
        batch = self._batch(rows, EARLIER)
        batch.split = numpy.array([SPLITS.index(value["split"]) for value in values], numpy.int8)
        if self._section.semantic.model:
            # What they say has to be read again, to be embedded.
            encoded, batch.lengths = _encoded(rows)
            batch.live, batch.lines = _flags([True] * len(rows)), self._lines.add(b"".join(encoded))
        return batch

    def _batch(self, rows: Sequence[Row], source: int) -> Batch:
        import numpy

        seed, column = self._section.split_seed, self._section.group_by
        keyed = keys_of(rows, seed)
        pack = pack_encoded(keyed.turns, self._scheme.threshold)
        signed = sign_pack(pack, self._scheme)
        near = NearColumns(
            kind=signed.kinds,
            sketch=signed.sketches,
            number=numpy.bincount(signed.texts, minlength=len(rows)).astype(numpy.int8),
            is_short=pack.is_short,
            keys=self._bands.add(numpy.ascontiguousarray(signed.keys.T).tobytes()),
        )
        values = [_value(row, column) for row in rows] if column else []
        return Batch(
            source=source,
            row_id=_numbers(bytes.fromhex("".join(row.row_id for row in rows))),
            line=numpy.fromiter((row.origin.line for row in rows), numpy.int64, len(rows)),
            keys=_numbers(keyed.keys.tobytes(), KEY_BYTES),
            value=_numbers(b"".join(bytes(VALUE_BYTES) if one is None else named(one, seed) for one in values), VALUE_BYTES),
            has_value=_flags([one is not None for one in values]),
            tokens=numpy.empty(0, numpy.int32),
            touched=numpy.empty(0, numpy.uint64),
            touches=(),
            live=_flags([]),
            lengths=numpy.empty((0, 2), numpy.uint32),
            sizes=numpy.empty((0, 3), numpy.int32),
            lines=Place("", 0, 0),
            text_ends=pack.ends,
            texts=self._texts.add(pack.blob),
            near=near,
            split=numpy.empty(0, numpy.int8),
            rows=len(rows),
        )


def _encoded(outcomes: Sequence[Row | Rejected]) -> "tuple[list[bytes], NDArray[Any]]":
    import numpy

    lines: list[bytes] = []
    for outcome in outcomes:
        if isinstance(outcome, Row):
            lines += encode_row(outcome)
        else:
            lines += (encode_rejected(outcome, _redacted), b"")
    return lines, numpy.fromiter(map(len, lines), numpy.uint32, len(lines)).reshape(-1, 2)


def _contents(rows: Iterable[Row | Rejected]) -> Iterator[str]:
    for row in rows:
        messages = row.messages if isinstance(row, Row) else row.content
        yield from (message.content for message in messages if isinstance(message, Message))


def _redacted(text: str) -> str:
    return redact(text).text


def _value(row: Row, column: str) -> bytes | None:
    value = row.slices.get(column)
    return None if value is None or value == "" else f"{column}={value}".encode()


def _tokens(rows: Sequence[Row]) -> "NDArray[Any]":
    import numpy

    return numpy.fromiter((-1 if row.tokens is None else row.tokens for row in rows), numpy.int32, len(rows))


def _touches(rows: Sequence[Row]) -> "tuple[NDArray[Any], list[tuple[str, str]]]":
    import numpy

    bits: dict[tuple[str, str], int] = {}
    masks = numpy.zeros(len(rows), numpy.uint64)
    for place, row in enumerate(rows):
        if row.touched:
            kinds = {bits.setdefault((touch.rule, touch.kind), len(bits)) for touch in row.touched}
            masks[place] = sum(1 << bit for bit in kinds)
    assert len(bits) <= KINDS_OF_TOUCH
    return masks, list(bits)


def _told(outcomes: Sequence[Row | Rejected], rules: Container[str]) -> list[tuple[int, str]]:
    """Reasons of some rules: each with the row that it flagged, or −1 for one that is out."""
    told: list[tuple[int, str]] = []
    number = 0
    for outcome in outcomes:
        if isinstance(outcome, Rejected):
            told += [(-1, outcome.reason)] if outcome.rule in rules else []
            continue
        told += [(number, touch.reason) for touch in outcome.touched if touch.rule in rules]
        number += 1
    return told


def _sizes(rows: Sequence[Row]) -> "tuple[NDArray[Any], list[str]]":
    """Characters of prompt and answer, and the answer's place among the labels or −1, (N, 3); and the labels."""
    import numpy

    labels: dict[str, int] = {}
    sizes = numpy.empty((len(rows), 3), numpy.int32)
    for place, row in enumerate(rows):
        prompt, answer, label = measure(row.messages)
        sizes[place] = prompt, answer, -1 if label is None else labels.setdefault(label, len(labels))
    return sizes, list(labels)


def _numbers(data: bytes, width: int = 0) -> "NDArray[Any]":
    """Bytes as numbers that sort as they do."""
    import numpy

    numbers = numpy.frombuffer(data, ">u8").astype(numpy.uint64)
    return numbers.reshape(-1, width // 8) if width else numbers


def _flags(values: Sequence[bool]) -> "NDArray[Any]":
    import numpy

    return numpy.array(values, numpy.bool_)


def ancestor(value: Mapping[str, Any]) -> Row:
    """Read a row as a snapshot holds it."""
    messages = tuple(map(Message.from_json, value["messages"]))
    origin, tools = Origin(**value["source"]), tuple(value.get("tools", ()))
    return Row(value["row_id"], origin, messages, value["slices"], value["weight"], "auto", tools=tools)
