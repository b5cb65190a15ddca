"""Sources → rows: every record of every file comes out as a row or as a rejected row.

    result = read_sources(recipe.source, folder=recipe.folder, section=recipe.prepare, report=silent)
    len(result.rows) + len(result.rejected) == sum(fact.rows for fact in result.facts)

A line that cannot be read is rejected with file and line; more of them than `max_malformed` allows is an error, because a
file that is broken that often is not the file that was meant. What was recognised (layout, shape, encoding) is kept.
"""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from budwood.errors import DataError, RecipeError
from budwood.events import Event, Reporter
from budwood.identity import Digest
from budwood.prepare.files import SourceFile, open_file
from budwood.prepare.read import SourceFacts
from budwood.prepare.records import Malformed, Record, records
from budwood.prepare.row import Message, Origin, Rejected, Row
from budwood.prepare.shapes import Content, Misshapen, Shape, check_unpadded, convert, left_out_keys, recognise
from budwood.recipe import PrepareSection, SourceSection
from budwood.tool_calls import strings

LOOKED_AT = 50
"""Records from which the shape of a file is recognised."""
STEP = 2000
"""Rows between two signs of life."""
PARTS = ("prompt", "completion", "system")


@dataclass
class ReadResult:
    rows: list[Row] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    facts: list[SourceFacts] = field(default_factory=list)


def read_sources(sources: Sequence[SourceSection], *, folder: Path, section: PrepareSection, report: Reporter) -> ReadResult:
    """Read all sources in the order of the recipe.

    Raises:
        DataError: a file that is missing, empty, not text, of no known shape, or malformed too often; the same bytes given
            twice; with `strict`, a source that does not state origin, licence and labelling.
        RecipeError: column names that cannot be used.
    """
    _check_declared(sources, section)
    result = ReadResult()
    seen: dict[Digest, str] = {}
    for number, source in enumerate(sources):
        with open_file((folder / source.path), shown=source.path, encoding=source.encoding) as file:
            if file.sha256 in seen:
                raise DataError(
                    f"{source.path} holds the same bytes as {seen[file.sha256]}.",
                    where=f"[[source]] number {number + 1}",
                    mend="Take one of them out; to draw its rows more often, set weight.",
                )
            seen[file.sha256] = source.path
            _read_file(file, source, number, section, result, report)
    return result


def _check_declared(sources: Sequence[SourceSection], section: PrepareSection) -> None:
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


def _read_file(
    file: SourceFile, source: SourceSection, number: int, section: PrepareSection, result: ReadResult, report: Reporter
) -> None:
    stream = records(file)
    first = list(itertools.islice(stream, LOOKED_AT))
    shape = _shape(first, source)
    _check_columns(first, source, number)
    report(Event("prepare", f"Reading {source.path}", fields={"layout": file.layout, "rows as": shape}))
    read = malformed = 0
    slices: dict[str, None] = {}
    left_out: dict[str, None] = {}
    tools = False
    faults: list[Rejected] = []
    for record in itertools.chain(first, stream):
        read += 1
        row = _row(record, file, source, shape, section)
        if isinstance(row, Row):
            result.rows.append(row)
            slices.update(dict.fromkeys(row.slices))
            left_out.update(dict.fromkeys(left_out_keys(cast("Record", record).value, shape)))
            tools = tools or bool(row.tools)
        else:
            malformed += 1
            faults.append(row)
        if read % STEP == 0:
            report(Event("prepare", f"Reading {source.path}", done=read, unit="rows"))
    if not read:
        raise DataError(f"The source {source.path!r} holds no rows.", mend="Give a file with rows, or take it out.")
    _check_malformed(faults, read, source, section.max_malformed)
    result.rejected += faults
    declared = source.model_dump(include={"split", "weight", "origin", "licence", "licence_verified", "cleaning", "labelling"})
    result.facts.append(
        SourceFacts(
            path=source.path,
            sha256=file.sha256,
            size=file.size,
            rows=read,
            malformed=malformed,
            layout=file.layout,
            shape=shape,
            encoding=file.encoding,
            compression=file.compression,
            slices=tuple(slices),
            left_out=tuple(key for key in left_out if key != "tools" or not tools),
            **declared,
        )
    )


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


def _row(
    record: Record | Malformed, file: SourceFile, source: SourceSection, shape: Shape, section: PrepareSection
) -> Row | Rejected:
    origin = Origin(source.path, file.sha256, record.line)
    if isinstance(record, Malformed):
        return Rejected(origin, "read", record.reason, record.raw)
    try:
        content = convert(record.value, shape, source.columns)
        if file.layout == "parquet" and (content.tools or any(message.calls for message in content.messages)):
            check_unpadded(record.value)
        _check_text(content)
    except Misshapen as error:
        return Rejected(origin, "read", str(error), _as_text(record.value))
    messages = content.messages
    if section.system and messages[0].role != "system":
        messages = (Message("system", section.system), *messages)
    if section.supervise == "last":
        messages = _last_alone(messages)
    return Row(origin.row_id, origin, messages, content.slices, source.weight, source.split, tools=content.tools)


def _last_alone(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Mark every answer but the last as one that is not learnt."""
    last = max((place for place, message in enumerate(messages) if message.role == "assistant"), default=-1)
    return tuple(
        message._replace(trained=False) if message.role == "assistant" and place != last else message
        for place, message in enumerate(messages)
    )


def _check_text(content: Content) -> None:
    for text in _texts(content):
        # JSON can spell half a character (a lone surrogate); no file could hold it afterwards.
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise Misshapen("holds half a character (a lone surrogate)") from None
    for key, value in content.slices.items():
        if isinstance(value, float) and math.isinf(value):
            raise Misshapen(f'"{key}" is infinite')


def _texts(content: Content) -> Iterator[str]:
    for message in content.messages:
        yield message.role
        yield message.content
        yield from strings((message.calls, message.call_id, message.name))
    yield from strings(content.tools)
    for key, value in content.slices.items():
        yield key
        if isinstance(value, str):
            yield value


def _as_text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace").decode("utf-8")


def _check_malformed(faults: Sequence[Rejected], read: int, source: SourceSection, allowed: float) -> None:
    if len(faults) <= allowed * read:
        return
    shown = "; ".join(f"line {fault.origin.line:,}: {fault.reason}" for fault in faults[:3])
    raise DataError(
        f"{len(faults):,} of {read:,} rows of {source.path} cannot be read ({len(faults) / read:.1%}). {shown}"
        + ("; …" if len(faults) > 3 else "."),
        mend=f"Correct them, or raise [prepare] max_malformed above {allowed:g} to reject them with a record.",
    )
