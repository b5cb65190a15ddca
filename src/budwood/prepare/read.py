"""Sources → pieces: each source is looked at, its shape is settled, and it is cut for whoever reads its rows.

    for piece in read_sources(recipe.source, folder=recipe.folder, section=recipe.prepare, ledger=ledger, report=silent): ...
    ledger.facts()         # once every piece has come back

A line that cannot be read is rejected with file and line; more of them than `max_malformed` allows is an error, because a
file that is broken that often is not the file that was meant. What was recognised (layout, shape, encoding) is kept.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from budwood.errors import DataError, RecipeError
from budwood.events import Event, Reporter
from budwood.identity import Digest
from budwood.prepare.charset import UTF8
from budwood.prepare.columns import Batch
from budwood.prepare.files import SourceFile, open_file
from budwood.prepare.piece import Piece, SourceView
from budwood.prepare.records import Content, Malformed, Record, contents, read_records
from budwood.prepare.shapes import Shape, recognise
from budwood.recipe import PrepareSection, SourceSection

LOOKED_AT = 50
"""Records from which the shape of a file is recognised."""
PARTS = ("prompt", "completion", "system")


@dataclass(frozen=True)
class SourceFacts:
    """What is known of one source; goes into the snapshot and its card."""

    path: str
    sha256: Digest
    size: int
    rows: int
    malformed: int
    layout: str
    shape: str
    encoding: str
    compression: str
    split: str
    weight: float
    origin: str
    licence: str
    licence_verified: str
    cleaning: str
    labelling: str
    slices: tuple[str, ...]
    left_out: tuple[str, ...]

    def as_body(self) -> dict[str, Any]:
        facts = asdict(self)
        return facts | {"format": facts["shape"], "slices": list(self.slices), "left_out": list(self.left_out)}


@dataclass
class Found:
    """What has been found in a source so far."""

    source: SourceSection
    file: SourceFile
    shape: Shape
    rows: int = 0
    malformed: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list)
    slices: dict[str, None] = field(default_factory=dict)
    left_out: dict[str, None] = field(default_factory=dict)
    has_tools: bool = False

    def add(self, batch: Batch) -> None:
        self.rows += batch.records
        self.malformed += batch.unread
        self.faults += batch.malformed[: max(0, 3 - len(self.faults))]
        self.slices.update(dict.fromkeys(batch.slices))
        self.left_out.update(dict.fromkeys(batch.left_out))
        self.has_tools = self.has_tools or batch.has_tools

    def facts(self, allowed: float) -> SourceFacts:
        """Close the account.

        Raises:
            DataError: no row, or too many that cannot be read.
        """
        path = self.source.path
        if not self.rows:
            raise DataError(f"The source {path!r} holds no rows.", mend="Give a file with rows, or take it out.")
        if self.malformed > allowed * self.rows:
            raise self._too_malformed(allowed)
        declared = self.source.model_dump(
            include={"split", "weight", "origin", "licence", "licence_verified", "cleaning", "labelling"}
        )
        return SourceFacts(
            path=path,
            sha256=self.file.sha256,
            size=self.file.size,
            rows=self.rows,
            malformed=self.malformed,
            layout=self.file.layout,
            shape=self.shape,
            encoding=self.file.encoding,
            compression=self.file.compression,
            slices=tuple(self.slices),
            left_out=tuple(key for key in self.left_out if key != "tools" or not self.has_tools),
            **declared,
        )

    def _too_malformed(self, allowed: float) -> DataError:
        shown = "; ".join(f"line {line:,}: {reason}" for line, reason in self.faults)
        return DataError(
            f"{self.malformed:,} of {self.rows:,} rows of {self.source.path} cannot be read "
            f"({self.malformed / self.rows:.1%}). {shown}" + ("; …" if self.malformed > 3 else "."),
            mend=f"Correct them, or raise [prepare] max_malformed above {allowed:g} to reject them with a record.",
        )


def read_sources(sources: Sequence[SourceSection], *, folder: Path, found: list[Found], report: Reporter) -> Iterator[Piece]:
    """Cut all sources in the order of the recipe; each is added to `found` before its pieces come.

    Raises:
        DataError: a file that is missing, empty, not text, of no known shape or that changes; the same bytes given twice.
    """
    seen: dict[Digest, str] = {}
    for number, source in enumerate(sources):
        opened = open_file(folder / source.path, shown=source.path, encoding=source.encoding, separator=source.separator)
        with opened as file:
            if file.sha256 in seen:
                raise DataError(
                    f"{source.path} holds the same bytes as {seen[file.sha256]}.",
                    where=f"[[source]] number {number + 1}",
                    mend="Take one of them out; to draw its rows more often, set weight.",
                )
            seen[file.sha256] = source.path
            yield from _cut(file, source, number, found, report)


def check_declared(sources: Sequence[SourceSection], section: PrepareSection) -> None:
    """Check what the recipe says of its sources.

    Raises:
        DataError: with `strict`, a source that does not state origin, licence and labelling.
        RecipeError: column names that cannot be used.
    """
    for number, source in enumerate(sources, start=1):
        unknown = [part for part in source.columns if part not in PARTS]
        if unknown:
            raise RecipeError(
                f'columns: "{unknown[0]}" is no part of a row. Known parts: {", ".join(PARTS)}.',
                where=f"[[source]] number {number}",
                mend="Other columns become slices by themselves.",
            )
        if (source.columns or source.format == "columns") and not {"prompt", "completion"} <= source.columns.keys():
            raise RecipeError(
                "columns needs both prompt and completion.",
                where=f"[[source]] number {number}",
                mend='e.g. columns = { prompt = "text", completion = "label" }.',
            )
        silent = [name for name in ("origin", "licence", "labelling") if not getattr(source, name).strip()]
        if section.strict and silent:
            raise DataError(
                f"{source.path} does not state its {' and '.join(silent)}.",
                where=f"[[source]] number {number}",
                mend="State it, or set [prepare] strict = false.",
            )


def _cut(file: SourceFile, source: SourceSection, number: int, found: list[Found], report: Reporter) -> Iterator[Piece]:
    pieces = contents(file)
    held: list[tuple[int, Content]] = []
    first: list[Record | Malformed] = []
    while len(first) < LOOKED_AT and (piece := next(pieces, None)) is not None:
        held.append(piece)
        first += itertools.islice(read_records(piece[1], piece[0]), LOOKED_AT - len(first))
    shape = _shape(first, source)
    _check_columns(first, source, number)
    fields: dict[str, float | str] = {"layout": file.layout, "rows as": shape}
    report(Event("prepare", f"Reading {source.path}", fields=fields | _conversion(file)))
    found.append(Found(source, file, shape))
    view = SourceView(
        number=number,
        path=source.path,
        sha256=file.sha256,
        layout=file.layout,
        shape=shape,
        converted="" if file.encoding == UTF8 else file.encoding,
        columns=source.columns,
        weight=source.weight,
        declared=source.split,
    )
    for line, content in itertools.chain(held, pieces):
        yield Piece(view, line, content)


def _conversion(file: SourceFile) -> dict[str, float | str]:
    return {} if file.encoding == UTF8 else {"converted from": file.encoding}


def _shape(first: Sequence[Record | Malformed], source: SourceSection) -> Shape:
    if source.columns:
        return "columns"
    if source.format != "auto":
        return source.format
    whole = [record.value for record in first if isinstance(record, Record)]
    if first and not whole:
        fault = cast("Malformed", first[0])
        raise DataError(
            f"None of the first {len(first)} rows of {source.path} can be read; line {fault.line}: {fault.reason}.",
            mend="Give JSONL, JSON, CSV or Parquet, plain, gzipped or as zstd.",
        )
    return recognise(whole, shown=source.path) if whole else "messages"


def _check_columns(first: Sequence[Record | Malformed], source: SourceSection, number: int) -> None:
    present = {key for record in first if isinstance(record, Record) for key in record.value}
    missing = [name for name in source.columns.values() if name not in present]
    if present and missing:
        raise DataError(
            f'{source.path} has no column "{missing[0]}". Its columns: {", ".join(sorted(present)[:20])}.',
            where=f"[[source]] number {number + 1}, columns",
            mend="Correct the name.",
        )
