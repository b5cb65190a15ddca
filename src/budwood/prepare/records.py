"""A recognised file → pieces of it → records, each with the line it stands on.

    for first, content in contents(file):           # content: whole lines of JSON in UTF-8, or records
        for record in read_records(content, first):
            match record:
                case Record(line, value): ...          # value: column or key → what it holds
                case Malformed(line, reason, raw): ...

A JSON object that holds the list of rows is read whole; all else is streamed, a JSON list item by item, pairs (one a line,
parted by the recipe's separator) too. In CSV a record may span lines (breaks in quotes): its line is the one that it begins on.
One that is broken counts as all of them, each a `Malformed`. In JSON and Parquet, which have no lines to speak of, it is the
record's number.
"""

import codecs
import csv
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, cast

from budwood.errors import DataError
from budwood.json_text import SPACE, decode, decode_list, kind
from budwood.prepare.files import BLOCK_BYTES, LONGEST_LINE_BYTES, SourceFile


class Record(NamedTuple):
    line: int
    value: dict[str, Any]


class Malformed(NamedTuple):
    line: int
    reason: str
    raw: str


Content = bytes | tuple[Record | Malformed, ...]
TOGETHER = 2000
"""Records of a piece, where it does not consist of lines."""
LARGEST_DOCUMENT = 1 << 29
"""Characters of a document that is an object with a list in it."""
TABLE_ROWS = 1 << 15
"""Rows of a Parquet file that are held at a time."""


def contents(file: SourceFile) -> Iterator[tuple[int, Content]]:
    """Cut a file, from its start, into pieces: the number of the first line, and what is in it.

    Raises:
        DataError: the file as a whole cannot be read: bytes that are no text, a broken archive, JSON or Parquet. A single
            line that cannot be read is `Malformed` instead.
    """
    if file.layout == "jsonl":
        yield from whole_lines(file.blocks())
        return
    readers = {"json": _json, "csv": _csv, "parquet": _parquet, "pairs": _pairs}
    for together in _batches(readers[file.layout](file)):
        yield together[0].line, together


def records(file: SourceFile) -> Iterator[Record | Malformed]:
    """Read a file from its start, record by record; raises as `contents`."""
    for first, content in contents(file):
        yield from read_records(content, first)


def read_records(content: Content, first: int) -> Iterator[Record | Malformed]:
    """Read what a piece holds."""
    if not isinstance(content, bytes):
        yield from content
        return
    yield from read_lines(enumerate(content.split(b"\n"), start=first))


def read_lines(lines: Iterable[tuple[int, bytes]]) -> Iterator[Record | Malformed]:
    """Read numbered lines of JSON; blank ones hold no record."""
    for number, line in lines:
        if len(line) > LONGEST_LINE_BYTES:
            yield _too_long(number, len(line))
        elif (text := line.decode("utf-8").rstrip("\r")) and not text.isspace():
            yield _parse(number, text)


def whole_lines(blocks: Iterable[bytes], *, longest: int | None = LONGEST_LINE_BYTES) -> Iterator[tuple[int, Content]]:
    """Cut blocks at line ends; a line over `longest` bytes is only measured, since it would fill the memory."""
    rest, number, skipped = b"", 1, 0
    for block in blocks:
        if skipped:
            before, end, block = block.partition(b"\n")
            skipped += len(before)
            if not end:
                continue
            yield number, (_too_long(number, skipped),)
            number, skipped = number + 1, 0
        data = rest + block
        cut = data.rfind(b"\n") + 1
        if cut:
            yield number, data[:cut]
            number += data.count(b"\n", 0, cut)
        rest = data[cut:]
        if longest is not None and len(rest) > longest:
            rest, skipped = b"", len(rest)
    if skipped:
        yield number, (_too_long(number, skipped),)
    elif rest:
        yield number, rest


def _too_long(line: int, size: int) -> Malformed:
    # Nothing of it is kept: where a text is cut, what has to be redacted would be cut, too, and not be found.
    return Malformed(line, f"{size:,} bytes in one line; lines of up to {LONGEST_LINE_BYTES:,} are read", "")


def _batches(stream: Iterator[Record | Malformed]) -> Iterator[tuple[Record | Malformed, ...]]:
    batch: list[Record | Malformed] = []
    size = 0
    for record in stream:
        batch.append(record)
        size += sum(len(cell) for cell in record.value.values() if isinstance(cell, str)) if isinstance(record, Record) else 0
        if len(batch) == TOGETHER or size > BLOCK_BYTES:
            yield tuple(batch)
            batch, size = [], 0
    if batch:
        yield tuple(batch)


def _text_lines(file: SourceFile) -> Iterator[str]:
    """Lines as text, their ends kept.

    Raises:
        DataError: one that is too long; the record that it belongs to has no known end.
    """
    for first, content in whole_lines(file.blocks()):
        if not isinstance(content, bytes):
            reason = cast("Malformed", content[0]).reason
            raise DataError(f"{file.shown}: line {first:,} holds {reason}.", mend="Look at its quotes.")
        yield from io.StringIO(content.decode("utf-8"), newline="\n")


def _pairs(file: SourceFile) -> Iterator[Record | Malformed]:
    for number, line in enumerate(_text_lines(file), start=1):
        text = line.rstrip("\r\n")
        if not text or text.isspace():
            continue
        parts = text.split(file.delimiter)
        if len(parts) == 2:
            yield Record(number, {"prompt": parts[0], "completion": parts[1]})
        else:
            yield Malformed(number, f"{file.delimiter!r} stands {len(parts) - 1} times in it, where once is expected", text)


def _csv(file: SourceFile) -> Iterator[Record | Malformed]:
    taken: list[str] = []
    reader = csv.reader(_tee(_text_lines(file), taken), delimiter=file.delimiter, strict=True)
    header = _header(reader, file.shown)
    while True:
        line = reader.line_num + 1
        taken.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield from _broken(line, f"no CSV: {error}", taken, file.delimiter)
            continue
        if len(cells) == len(header):
            yield Record(line, dict(zip(header, cells, strict=True)))
        elif cells:
            reason = f"{len(cells)} column{'s' if len(cells) > 1 else ''} where the header has {len(header)}"
            yield from _broken(line, reason, taken, file.delimiter)


def _broken(line: int, reason: str, taken: Sequence[str], delimiter: str) -> Iterator[Malformed]:
    """Give up every line that a broken record took: a quote that is never closed swallows rows, and they must be missed."""
    if len(taken) > 1:
        opened = line + _last_opening(taken, delimiter)
        reason = f"{reason}; the quote opened on line {opened:,} takes in {len(taken):,} lines"
    yield Malformed(line, reason, taken[0])
    for number, text in enumerate(taken[1:], start=line + 1):
        yield Malformed(number, f"in the broken record that begins on line {line:,}", text)


def _last_opening(lines: Sequence[str], delimiter: str) -> int:
    """Index of the line on which the last quoted field begins."""
    opened = 0
    state: Literal["between", "plain", "quoted", "closing"] = "between"
    for number, line in enumerate(lines):
        for sign in line:
            if state == "quoted":
                state = "closing" if sign == '"' else "quoted"
            elif sign == '"' and state != "plain":
                # Behind a closing quote it is the second of a doubled one: the field goes on.
                opened = number if state == "between" else opened
                state = "quoted"
            else:
                state = "between" if sign in (delimiter, "\n", "\r") else "plain"
    return opened


def _json(file: SourceFile) -> Iterator[Record | Malformed]:
    try:
        for number, value in enumerate(_values(file), start=1):
            if isinstance(value, dict):
                yield Record(number, value)
            else:
                raw = json.dumps(value, ensure_ascii=False)
                yield Malformed(number, f"{kind(value)} where an object is expected", raw)
    except ValueError as error:
        raise DataError(f"{file.shown} is not JSON: {error}.", mend="Correct that place.") from None


def _values(file: SourceFile) -> Iterator[Any]:
    """The rows of a document: a list's one after the other, an object's once it has been read."""
    texts = codecs.iterdecode(file.blocks(), "utf-8")
    start = ""
    for text in texts:
        start += text
        if not start.isspace():
            break
    whole = itertools.chain([start], texts)
    if start.lstrip(SPACE).startswith("["):
        return decode_list(whole)
    return iter(_rows_of(decode(_document(whole, file.shown)), file.shown))


def _document(texts: Iterable[str], shown: str) -> str:
    held: list[str] = []
    size = 0
    for text in texts:
        held.append(text)
        size += len(text)
        if size > LARGEST_DOCUMENT:
            raise DataError(
                f"{shown} is one JSON object of more than {LARGEST_DOCUMENT:,} characters, which is read as a whole.",
                mend="Write its rows one a line, e.g. with `jq -c '.[][]'`, and call it .jsonl.",
            )
    return "".join(held)


def _parquet(file: SourceFile) -> Iterator[Record | Malformed]:
    import polars

    try:
        # Unpacked in memory where it is packed once more, which Parquet does not need.
        source = io.BytesIO(file.content()) if file.compression else file.handle
        source.seek(0)
        frame = polars.scan_parquet(source)
        rows = frame.select(polars.len()).collect().item()
        for start in range(0, rows, TABLE_ROWS):
            part = frame.slice(start, TABLE_ROWS).collect()
            for number, values in enumerate(part.iter_rows(named=True), start=start + 1):
                yield Record(number, values)
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException) as error:
        # A panic, which some damaged files bring about, is no Exception: it would pass every handler on its way out.
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{file.shown} is not readable Parquet: {reason}.", mend="Write the file again.") from None


def _tee(lines: Iterator[str], taken: list[str]) -> Iterator[str]:
    for line in lines:
        taken.append(line)
        yield line


def _header(reader: Iterator[list[str]], shown: str) -> list[str]:
    try:
        header = [name.strip() for name in next(cells for cells in reader if cells)]
    except (StopIteration, csv.Error):
        raise DataError(
            f"{shown} has no CSV header.", where="its first line", mend="Give the columns' names in the first line."
        ) from None
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{shown} has the column {twice[0]!r} twice.", where="its header", mend="Rename one of them.")
    return header


def _parse(line: int, text: str) -> Record | Malformed:
    try:
        value = decode(text)
    except ValueError as error:
        return Malformed(line, f"no JSON: {error}", text)
    if not isinstance(value, dict):
        return Malformed(line, f"{kind(value)} where an object is expected", text)
    return Record(line, value)


def _rows_of(values: Any, shown: str) -> list[Any]:
    lists = [name for name, value in values.items() if isinstance(value, list)] if isinstance(values, dict) else []
    if len(lists) == 1:
        return cast("list[Any]", values[lists[0]])
    raise DataError(
        f"{shown} holds no list of rows: an object with {len(lists)} lists.",
        mend="Give a JSON array of objects, or an object with one such array.",
    )
