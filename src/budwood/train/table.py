"""Rows as columns in files that are mapped, not read: a training holds the rows of a step, however many there are in all.

A table is a folder: a file a column, and `table.json` with the counts and the digest of every column. It is written in one pass
beside its place and renamed, and checked when it is opened. It is a cache: what is damaged is named, and may be deleted.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, overload

import numpy as np

from budwood.engine.packed import Encoded
from budwood.errors import TrainingError
from budwood.events import Event, Reporter
from budwood.identity import digest_file
from budwood.train.disk import writing
from budwood.train.rows import TrainRow

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = 1
INDEX = "table.json"
LONGEST_NAME = 64
COLUMNS: Mapping[str, str] = {
    "ids": "<i4",
    "marks": "u1",
    "ends": "<i8",
    "weights": "<f8",
    "lines": "<i8",
    "files": "<i4",
    "row_ids": f"S{LONGEST_NAME}",
}
"""Tokens and which are supervised, one row behind the other; of each row: where it ends, and the rest of a `TrainRow`."""
PIECE = 4096
"""Rows that are held until they are written."""
SCANNED = 1 << 20
"""Tokens that are looked at together."""


@dataclass(frozen=True)
class RowTable:
    """Rows that are read as they are asked for. Made by `open_table`."""

    columns: "Mapping[str, NDArray[Any]]"
    files: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.columns["ends"])

    @property
    def lengths(self) -> "NDArray[np.int64]":
        """Tokens of each row."""
        return np.diff(self.columns["ends"], prepend=0)

    @property
    def weights(self) -> "NDArray[np.float64]":
        return self.columns["weights"]

    @property
    def tokens(self) -> int:
        return len(self.columns["ids"])

    @property
    def names(self) -> "Names":
        """Row ids, read as they are asked for."""
        return Names(self.columns["row_ids"])

    def holds(self, tokens: Sequence[int]) -> list[bool]:
        """Say of each token whether some row has it."""
        ids = self.columns["ids"]
        seen = np.zeros(1 + max(tokens, default=0), dtype=bool)
        for start in range(0, len(ids), SCANNED):
            piece = ids[start : start + SCANNED]
            seen[piece[piece < len(seen)]] = True
        return [bool(seen[token]) for token in tokens]

    def __getitem__(self, index: int) -> TrainRow:
        at = range(len(self))[index]
        columns = self.columns
        start, end = int(columns["ends"][at - 1]) if at else 0, int(columns["ends"][at])
        marks = columns["marks"][start:end].astype(bool).tolist()
        encoded = Encoded(tuple(columns["ids"][start:end].tolist()), tuple(marks))
        file = self.files[int(columns["files"][at])]
        return TrainRow(encoded, self.names[at], file, int(columns["lines"][at]), float(columns["weights"][at]))


@dataclass(frozen=True)
class Names(Sequence[str]):
    """A column of names as a sequence of texts."""

    column: "NDArray[Any]"

    def __len__(self) -> int:
        return len(self.column)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return bytes(self.column[index]).decode()


def table(folder: Path, rows: Iterable[TrainRow], report: Reporter) -> RowTable:
    """Open the table in `folder`, or write it from `rows` first; a damaged one is written again, with a word.

    The folder must be named by all that the rows depend on.

    Raises:
        TrainingError: it cannot be written; or what `rows` raises: then nothing is kept.
    """
    if folder.is_dir():
        try:
            return open_table(folder)
        except TrainingError as error:
            report(Event("train", f"{error.what.rstrip('.')}; they are made again"))
            with writing("The rows' tokens", folder.parent, mend=f"Delete {folder}."):
                shutil.rmtree(folder)
    write_table(folder, rows)
    return open_table(folder)


def write_table(folder: Path, rows: Iterable[TrainRow]) -> None:
    """Write rows in one pass, holding few of them; another process that was faster wins.

    Raises:
        TrainingError: the disk refuses; or what `rows` raises. Nothing half-written stays.
    """
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    with writing("The rows' tokens", folder.parent, scratch=scratch, mend="Free some space, then run the same command again."):
        scratch.mkdir(parents=True)
        try:
            _fill(scratch, rows)
            if not folder.is_dir():
                os.replace(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def open_table(folder: Path) -> RowTable:
    """Map a table's columns, each held to its digest.

    Raises:
        TrainingError: it is damaged, or of another format.
    """
    try:
        index = json.loads((folder / INDEX).read_bytes())
        if index["format"] != FORMAT:
            raise ValueError(f"its format is {index['format']!r}, not {FORMAT}")
        columns: dict[str, NDArray[Any]] = {}
        for name, kind in COLUMNS.items():
            path = folder / f"{name}.bin"
            if digest_file(path) != index["digests"][name]:
                raise ValueError(f"{path.name} was changed")
            # An empty file cannot be mapped.
            columns[name] = np.memmap(path, dtype=kind, mode="r") if path.stat().st_size else np.zeros(0, dtype=kind)
        return RowTable(columns, tuple(index["files"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"The rows' tokens cannot be read: {error}.", where=str(folder), mend="Delete that folder; it is made again."
        ) from error


def _fill(folder: Path, rows: Iterable[TrainRow]) -> None:
    files: dict[str, int] = {}
    held: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    tokens = count = 0
    columns = {name: (folder / f"{name}.bin").open("wb") for name in COLUMNS}
    try:
        for row in rows:
            tokens += len(row.encoded.ids)
            count += 1
            held["ids"] += row.encoded.ids
            held["marks"] += row.encoded.supervised
            held["ends"].append(tokens)
            held["weights"].append(row.weight)
            held["lines"].append(row.line)
            held["files"].append(files.setdefault(row.file, len(files)))
            held["row_ids"].append(_name(row.row_id))
            if count % PIECE == 0:
                _flush(columns, held)
        _flush(columns, held)
        for file in columns.values():
            file.flush()
            os.fsync(file.fileno())
    finally:
        for file in columns.values():
            file.close()
    digests = {name: digest_file(folder / f"{name}.bin") for name in COLUMNS}
    index = {"format": FORMAT, "rows": count, "tokens": tokens, "files": list(files), "digests": digests}
    (folder / INDEX).write_text(json.dumps(index))


def _flush(columns: Mapping[str, IO[bytes]], held: dict[str, list[Any]]) -> None:
    for name, kind in COLUMNS.items():
        columns[name].write(np.array(held[name], dtype=kind).tobytes())
        held[name].clear()


def _name(row_id: str) -> bytes:
    name = row_id.encode()
    if len(name) > LONGEST_NAME:
        raise TrainingError(f"The row id {row_id!r} is longer than {LONGEST_NAME} bytes.", mend="Prepare the data again.")
    return name
