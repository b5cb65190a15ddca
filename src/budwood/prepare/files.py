"""One source file: open, hash, unpack, decode; what it is, is read off its bytes, and its name only breaks ties.

    with open_file(path, shown="tickets.jsonl.gz") as file:
        file.sha256, file.layout              # digest of the bytes on disk, "jsonl"
        for data in file.blocks(): ...        # UTF-8, unpacked and converted

A file is hashed, looked through and read through one descriptor, and refused when it changes in between. Text is UTF-8; what
else it can be, `charset` says.
"""

import codecs
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Literal

from budwood.errors import DataError
from budwood.identity import Digest
from budwood.prepare.charset import BOM, UTF8, Survey
from budwood.prepare.unpack import Compression, breakages, check_ratio, chunks, compression_of, unpacked

Layout = Literal["jsonl", "json", "csv", "parquet", "pairs"]
PARQUET = b"PAR1"
HEAD = 1 << 16
"""Bytes looked at to recognise a file."""
BLOCK_BYTES = 1 << 20
"""Read at a time."""
LONGEST_LINE_BYTES = 1 << 24
"""Of a line that is read: four million tokens, and more than any base takes."""
LONGEST_SHOWN = 120
"""Characters of a path that an error shows."""


@dataclass(frozen=True)
class SourceFile:
    """A file that is open, hashed and recognised.

    Args:
        shown: its path as the recipe writes it; the only path that goes into errors, rows and cards.
        layout: how its records are laid out.
        encoding: "utf-8", or what is converted from.
        old_line_ends: lines end with a return alone, as they did on early Macintoshes.
        delimiter: between the columns of a CSV, or the two parts of a pair; else empty.
    """

    shown: str
    sha256: Digest
    size: int
    compression: Compression
    layout: Layout
    encoding: str
    old_line_ends: bool
    delimiter: str
    handle: IO[bytes]

    def blocks(self) -> Iterator[bytes]:
        """Read from the start, unpacked, as UTF-8 without a mark, in blocks that may end anywhere.

        Raises:
            DataError: bytes that are no text, or an archive that breaks off.
        """
        try:
            with unpacked(self.handle, self.compression) as stream:
                first = True
                for block in self._converted(chunks(stream, BLOCK_BYTES)):
                    block = block.removeprefix(BOM) if first else block
                    first = False
                    yield block.replace(b"\r", b"\n") if self.old_line_ends else block
        except UnicodeError as error:
            raise DataError(f"{self.shown} is not {self.encoding}: {error}.", mend="Save the file as UTF-8.") from None
        except breakages(self.compression) as error:
            raise broken(self.shown, error) from None

    def _converted(self, read: Iterator[bytes]) -> Iterator[bytes]:
        if self.encoding == UTF8:
            yield from read
            return
        decoder = codecs.getincrementaldecoder(self.encoding)("strict")
        for block in read:
            yield decoder.decode(block).encode(UTF8)
        yield decoder.decode(b"", True).encode(UTF8)

    def content(self) -> bytes:
        """Read all bytes, unpacked; raises DataError when an archive breaks off."""
        try:
            with unpacked(self.handle, self.compression) as stream:
                return stream.read()
        except breakages(self.compression) as error:
            raise broken(self.shown, error) from None


@contextmanager
def open_file(path: Path, *, shown: str, encoding: str = "", separator: str = "") -> Iterator[SourceFile]:
    """Open, hash and recognise a file; it is checked for changes when the block ends.

    Args:
        path: of the file.
        shown: the path as the recipe writes it.
        encoding: as the recipe states it; empty: it is recognised.
        separator: the file is text, a pair a line, with this between its parts.

    Raises:
        DataError: missing, a folder, not readable, not a regular file, empty, of an encoding that cannot be told, an archive
            that breaks off or grows beyond measure, or changed while it was read.
    """
    handle = _open(path, shown)
    with handle:
        before = os.fstat(handle.fileno())
        file = _recognise(handle, shown, encoding, before.st_size)
        yield replace(file, layout="pairs", delimiter=separator) if separator else file
        after = os.fstat(handle.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise DataError(f"{shown} changed while it was being read.", mend="Wait until it is written, then run again.")


def broken(shown: str, error: Exception) -> DataError:
    return DataError(f"{shown} cannot be read to its end: {error}.", mend="It may be cut short; fetch it again.")


def check_file(path: Path, *, shown: str) -> None:
    """Raise what `open_file` would before it looks inside."""
    _open(path, shown).close()


def _open(path: Path, shown: str) -> IO[bytes]:
    try:
        # A FIFO would block for ever when opened; nothing but a regular file is.
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a folder" if path.is_dir() else "not a regular file"
            raise DataError(f"The source {shown!r} is {kind}.", where="[[source]] path", mend="Name one file of rows.")
        return path.open("rb")
    except FileNotFoundError:
        raise DataError(
            f"There is no source {shown!r}.", where="[[source]] path", mend="Paths start at the recipe's folder; check it."
        ) from None
    except PermissionError:
        raise DataError(
            f"The source {shown!r} may not be read.", where="[[source]] path", mend="Check its permissions."
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(
            f"The source {_brief(shown)} cannot be opened: {reason}.", where="[[source]] path", mend="Check the path."
        ) from None


def _brief(shown: str) -> str:
    return repr(shown) if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]!r}… ({len(shown):,} characters)"


def _recognise(handle: IO[bytes], shown: str, stated: str, size: int) -> SourceFile:
    compression, head = _head(handle, shown)
    survey = Survey(head)
    digest = _look_through(handle, head, shown, compression, survey, size)
    # Nothing in Parquet is text as a whole.
    layout: Layout | None = "parquet" if head.startswith(PARQUET) else None
    encoding = UTF8 if layout else stated or survey.encoding(shown)
    if encoding == UTF8 and not layout:
        survey.check_utf8(shown)
    text = head.decode(encoding, errors="replace").removeprefix("\ufeff")
    if not text.strip():
        raise DataError(f"The source {shown!r} is empty ({size:,} bytes).", mend="Give a file with rows, or take it out.")
    old = survey.has_return and not survey.has_line_feed
    text = text.replace("\r", "\n") if old else text
    layout = layout or _text_layout(text, shown)
    delimiter = _delimiter(text, shown) if layout == "csv" else ""
    return SourceFile(shown, digest, size, compression, layout, encoding, old, delimiter, handle)


def _head(handle: IO[bytes], shown: str) -> tuple[Compression, bytes]:
    try:
        compression = compression_of(handle.read(4))
    except OSError as error:
        raise _unreadable(shown, error) from None
    try:
        with unpacked(handle, compression) as stream:
            return compression, stream.read(HEAD)
    except breakages(compression) as error:
        raise DataError(f"{shown} cannot be unpacked: {error}.", mend="Fetch or write the archive again.") from None


def _look_through(handle: IO[bytes], head: bytes, shown: str, compression: Compression, survey: Survey, size: int) -> Digest:
    """Hash the bytes on disk, and look at those that they unpack to."""
    hasher = hashlib.sha256()
    is_parquet = head.startswith(PARQUET)
    handle.seek(0)
    try:
        for chunk in chunks(handle, BLOCK_BYTES):
            hasher.update(chunk)
            if not compression and not is_parquet:
                survey.add(chunk)
    except OSError as error:
        raise _unreadable(shown, error) from None
    if compression:
        try:
            with unpacked(handle, compression) as stream:
                for chunk in chunks(stream, BLOCK_BYTES):
                    survey.add(chunk)
                    check_ratio(survey.size, size, shown)
        except breakages(compression) as error:
            raise broken(shown, error) from None
    return Digest(hasher.hexdigest())


def _unreadable(shown: str, error: OSError) -> DataError:
    return DataError(
        f"The source {shown!r} cannot be read: {error.strerror}.",
        where="[[source]] path",
        mend="Look at the disk, or copy the file elsewhere.",
    )


def _text_layout(text: str, shown: str) -> Layout:
    name = shown.lower().removesuffix(".gz").removesuffix(".zst")
    start = text.lstrip()
    if name.endswith((".csv", ".tsv")) or start[0] not in "[{":
        # Lines that are no JSON in a file called .jsonl are malformed JSON, and not a table.
        return "jsonl" if name.endswith((".jsonl", ".ndjson", ".json")) else "csv"
    if start[0] == "[":
        return "json"
    first, _, rest = start.partition("\n")
    if name.endswith((".jsonl", ".ndjson")) or rest.lstrip().startswith("{"):
        return "jsonl"
    # One object so far: a document when it is called one or its first line stops inside of it, else a single row.
    return "json" if name.endswith(".json") or first.strip() == "{" else "jsonl"


def _delimiter(text: str, shown: str) -> str:
    first = text.split("\n", 1)[0]
    if shown.lower().endswith((".tsv", ".tsv.gz", ".tsv.zst")):
        return "\t"
    return max(",;\t|", key=first.count)
