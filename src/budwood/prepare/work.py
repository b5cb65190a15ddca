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
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budwood.prepare.clean import clean
from budwood.prepare.columns import KEY_BYTES, KINDS_OF_TOUCH, VALUE_BYTES, Batch, NearColumns
from budwood.prepare.convert import row_of
from budwood.prepare.done import Done, in_order, of_outcomes, of_plain
from budwood.prepare.finish import Fates, Finisher
from budwood.prepare.keys import named
from budwood.prepare.piece import Piece
from budwood.prepare.plain import find_rows
from budwood.prepare.plain.left import Leaving
from budwood.prepare.records import Malformed, Record, read_lines, read_records
from budwood.prepare.row import SPLITS, Message, Origin, Rejected, Row, TokenLength, Touch
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
        self._leaving = Leaving(self._rules)
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
        import numpy

        records, plain = self._looked_through(piece)
        read = [row_of(record, piece.source, self._section) for record in records]
        outcomes = clean(read, self._rules)
        if self._section.language != "off":
            rows = (row for row in outcomes if isinstance(row, Row))
            self._told.confirm(_contents(rows), _contents(row for row in outcomes if isinstance(row, Rejected)), _redacted)
        done = in_order([of_outcomes(outcomes, read, self._section, _redacted), *plain])
        batch = self._batch(done, piece.source.number)
        batch.live = done.live
        batch.lines, batch.lengths = self._written(done)
        batch.tokens = numpy.fromiter((-1 if one is None else one for one in done.tokens), numpy.int32, len(done.tokens))
        batch.touched, batch.touches = _touches(done.touched)
        batch.told = _told(outcomes, {rule.name for rule in self._rules if isinstance(rule, Contamination)})
        batch.sizes, batch.labels = _sizes(done)
        batch.dropped = Counter(row.rule for row in outcomes if isinstance(row, Rejected))
        broken = [row for row in read if isinstance(row, Rejected)]
        batch.malformed = [(row.origin.line, row.reason) for row in broken[:SHOWN_FAULTS]]
        whole = [(row, record) for row, record in zip(read, records, strict=True) if isinstance(row, Row)]
        left_out = (left_out_keys(record.value, piece.source.shape) for _, record in whole if isinstance(record, Record))
        batch.left_out = _distinct(left_out)
        batch.slices, batch.columns = _distinct(done.read_names), _distinct(done.names)
        batch.has_tools = any(row.tools for row, _ in whole)
        batch.calls_tools = any(row.calls_tools for row, _ in whole)
        return batch

    def _looked_through(self, piece: Piece) -> tuple[Sequence[Record | Malformed], Sequence[Done]]:
        """Take out the plain rows that every rule leaves; gives all other records, and what came of those rows, if any."""
        found = None
        if isinstance(piece.content, bytes) and self._leaving.can_tell:
            found = find_rows(piece.content, piece.source, self._section)
        if found is None:
            return list(read_records(piece.content, piece.first)), ()
        places, tokens = self._leaving.left(found.pairs())
        others = list(read_lines(found.others(places, piece.first)))
        done = of_plain(found, places, tokens, piece.first, piece.source, self._section)
        return others, [done] if places else []

    def _written(self, done: Done) -> "tuple[Place, NDArray[Any]]":
        """Put the halves of lines into the spool; gives where they lie, and their lengths."""
        import numpy

        halves = list(chain.from_iterable(done.halves))
        lengths = numpy.fromiter(map(len, halves), numpy.uint32, len(halves)).reshape(-1, 2)
        return self._lines.add(b"".join(halves)), lengths

    def ancestors(self, lines: bytes) -> Batch:
        """Key and sign rows of an earlier snapshot, given as it holds them."""
        import numpy

        # A rejected row has a split only where a selection left it out later: it keeps its side.
        values = [value for value in map(json.loads, lines.splitlines()) if value.get("split") is not None]
        rows = list(map(ancestor, values))
        embedded = bool(self._section.semantic.model)
        done = of_outcomes(rows, rows, self._section, _redacted, encoded=embedded)
        batch = self._batch(done, EARLIER)
        batch.split = numpy.array([SPLITS.index(value["split"]) for value in values], numpy.int8)
        if embedded:
            # What they say has to be read again.
            batch.live, (batch.lines, batch.lengths) = done.live, self._written(done)
        return batch

    def _batch(self, done: Done, source: int) -> Batch:
        import numpy

        rows, seed, values = len(done.row_id), self._section.split_seed, done.values
        pack = pack_encoded(done.turns, self._scheme.threshold)
        signed = sign_pack(pack, self._scheme)
        near = NearColumns(
            kind=signed.kinds,
            number=numpy.bincount(signed.texts, minlength=rows).astype(numpy.int8),
            is_short=pack.is_short,
            signed=self._bands.add(signed.keys.T.tobytes() + signed.sketches.T.tobytes()),
        )
        return Batch(
            source=source,
            row_id=_numbers(bytes.fromhex("".join(done.row_id))),
            line=done.line[done.live],
            keys=_numbers(done.keys.tobytes(), KEY_BYTES),
            value=_numbers(b"".join(bytes(VALUE_BYTES) if one is None else named(one, seed) for one in values), VALUE_BYTES),
            has_value=numpy.array([one is not None for one in values], numpy.bool_),
            tokens=numpy.empty(0, numpy.int32),
            touched=numpy.empty(0, numpy.uint64),
            touches=(),
            live=numpy.empty(0, numpy.bool_),
            lengths=numpy.empty((0, 2), numpy.uint32),
            sizes=numpy.empty((0, 3), numpy.int32),
            lines=Place("", 0, 0),
            text_ends=pack.ends,
            texts=self._texts.add(pack.blob),
            near=near,
            split=numpy.empty(0, numpy.int8),
            rows=rows,
        )


def _contents(rows: Iterable[Row | Rejected]) -> Iterator[str]:
    for row in rows:
        messages = row.messages if isinstance(row, Row) else row.content
        yield from (message.content for message in messages if isinstance(message, Message))


def _redacted(text: str) -> str:
    return redact(text).text


def _touches(touched: Sequence[tuple[Touch, ...]]) -> "tuple[NDArray[Any], list[tuple[str, str]]]":
    import numpy

    bits: dict[tuple[str, str], int] = {}
    masks = numpy.zeros(len(touched), numpy.uint64)
    for place, touches in enumerate(touched):
        if touches:
            kinds = {bits.setdefault((touch.rule, touch.kind), len(bits)) for touch in touches}
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


def _sizes(done: Done) -> "tuple[NDArray[Any], list[str]]":
    """Characters of prompt and answer, and the answer's place among the labels or −1, (N, 3); and the labels."""
    import numpy

    labels: dict[str, int] = {}
    places = [-1 if label is None else labels.setdefault(label, len(labels)) for label in done.labels]
    return numpy.column_stack([done.sizes, numpy.array(places, numpy.int32)]).astype(numpy.int32), list(labels)


def _distinct(names: Iterable[Iterable[str]]) -> list[str]:
    """Names in order of appearance."""
    return list(dict.fromkeys(chain.from_iterable(dict.fromkeys(map(tuple, names)))))


def _numbers(data: bytes, width: int = 0) -> "NDArray[Any]":
    """Bytes as numbers that sort as they do."""
    import numpy

    numbers = numpy.frombuffer(data, ">u8").astype(numpy.uint64)
    return numbers.reshape(-1, width // 8) if width else numbers


def ancestor(value: Mapping[str, Any]) -> Row:
    """Read a row as a snapshot holds it."""
    messages = tuple(map(Message.from_json, value["messages"]))
    origin, tools = Origin(**value["source"]), tuple(value.get("tools", ()))
    return Row(value["row_id"], origin, messages, value["slices"], value["weight"], "auto", tools=tools)
