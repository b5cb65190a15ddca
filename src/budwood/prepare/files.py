"""One source file: open, hash, unpack, decode; what it is, is read off its bytes, and its name only breaks ties.

    with open_file(path, shown="tickets.jsonl.gz") as file:
        file.sha256, file.layout              # digest of the bytes on disk, "jsonl"
        for line in file.lines(): ...         # text, unpacked and decoded

A file is hashed and read through one descriptor, and refused when it changes in between. Text is UTF-8; UTF-16 with its
mark is converted and said so; anything else is refused with line and offset of the first byte that is no character.
"""

import gzip
import hashlib
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal, cast

from budwood.errors import DataError
from budwood.identity import Digest

Layout = Literal["jsonl", "json", "csv", "parquet", "pairs"]
Compression = Literal["", "gzip", "zstd"]
HEAD = 1 << 16
"""Bytes looked at to recognise a file."""
LONGEST_SHOWN = 120
"""Characters of a path that an error shows."""
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class SourceFile:
    """A file that is open, hashed and recognised.

    Args:
        shown: its path as the recipe writes it; the only path that goes into errors, rows and cards.
        layout: how its records are laid out.
        encoding: "utf-8", or what was converted from.
        delimiter: between the columns of a CSV, or the two parts of a pair; else empty.
    """

    shown: str
    sha256: Digest
    size: int
    compression: Compression
    layout: Layout
    encoding: str
    delimiter: str
    handle: IO[bytes]

    def lines(self) -> Iterator[str]:
        """Read as text from the start, line ends kept.

        Raises:
            DataError: bytes that are no text, or an archive that breaks off.
        """
        offset = 0
        try:
            with _unpacked(self.handle, self.compression) as stream:
                if self.encoding != "utf-8":
                    yield from _decoded(stream, self.encoding)
                    return
                for number, raw in enumerate(stream, start=1):
                    line = raw[3:] if number == 1 and raw.startswith(BOM) else raw
                    try:
                        yield line.decode("utf-8")
                    except UnicodeDecodeError as error:
                        place = f"on line {number:,} (offset {offset + error.start + len(raw) - len(line):,})"
                        raise self._not_text(line, line[error.start], place) from None
                    offset += len(raw)
        except UnicodeError as error:
            raise DataError(f"{self.shown} is not {self.encoding}: {error}.", mend="Save the file as UTF-8.") from None
        except _breakages(self.compression) as error:
            raise self._broken(error) from None

    def content(self) -> bytes:
        """Read all bytes, unpacked; raises DataError when an archive breaks off."""
        try:
            with _unpacked(self.handle, self.compression) as stream:
                return stream.read()
        except _breakages(self.compression) as error:
            raise self._broken(error) from None

    def _broken(self, error: Exception) -> DataError:
        return DataError(f"{self.shown} cannot be read to its end: {error}.", mend="It may be cut short; fetch it again.")

    def _not_text(self, line: bytes, byte: int, place: str) -> DataError:
        try:
            line.decode("cp1252")
            guess = "It may be Windows-1252: convert it with `iconv -f WINDOWS-1252 -t UTF-8`, and look at the result."
        except UnicodeDecodeError:
            guess = "Save the file as UTF-8."
        return DataError(f"{self.shown} is not UTF-8: byte {byte:#04x} {place} begins no character.", mend=guess)


@contextmanager
def open_file(path: Path, *, shown: str, separator: str = "") -> Iterator[SourceFile]:
    """Open, hash and recognise a file; it is checked for changes when the block ends.

    `separator`: the file is text, a pair a line, with this between its parts.

    Raises:
        DataError: missing, a folder, not readable, not a regular file, empty, or changed while it was read.
    """
    handle = _open(path, shown)
    with handle:
        before = os.fstat(handle.fileno())
        digest = _hash(handle, shown)
        handle.seek(0)
        file = _recognise(handle, shown, digest, before.st_size)
        yield replace(file, layout="pairs", delimiter=separator) if separator else file
        after = os.fstat(handle.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise DataError(f"{shown} changed while it was being read.", mend="Wait until it is written, then run again.")


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


def _hash(handle: IO[bytes], shown: str) -> Digest:
    hasher = hashlib.sha256()
    try:
        while piece := handle.read(1 << 20):
            hasher.update(piece)
    except OSError as error:
        raise DataError(
            f"The source {shown!r} cannot be read: {error.strerror}.",
            where="[[source]] path",
            mend="Look at the disk, or copy the file elsewhere.",
        ) from None
    return Digest(hasher.hexdigest())


def _recognise(handle: IO[bytes], shown: str, digest: Digest, size: int) -> SourceFile:
    magic = handle.read(4)
    handle.seek(0)
    compression: Compression = "gzip" if magic[:2] == b"\x1f\x8b" else "zstd" if magic == b"\x28\xb5\x2f\xfd" else ""
    try:
        with _unpacked(handle, compression) as stream:
            head = stream.read(HEAD)
    except _breakages(compression) as error:
        raise DataError(f"{shown} cannot be unpacked: {error}.", mend="Fetch or write the archive again.") from None
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    text = head.decode(encoding, errors="replace").removeprefix("\ufeff")
    if not text.strip():
        raise DataError(f"The source {shown!r} is empty ({size:,} bytes).", mend="Give a file with rows, or take it out.")
    layout = "parquet" if head[:4] == b"PAR1" else _text_layout(text, shown)
    delimiter = _delimiter(text, shown) if layout == "csv" else ""
    return SourceFile(shown, digest, size, compression, layout, encoding, delimiter, handle)


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


def _decoded(stream: IO[bytes], encoding: str) -> Iterator[str]:
    text = io.TextIOWrapper(stream, encoding=encoding, newline="\n")
    try:
        yield from text
    finally:
        text.detach()  # The file stays open: it is looked at once more for changes.


@contextmanager
def _unpacked(handle: IO[bytes], compression: Compression) -> Iterator[IO[bytes]]:
    """Read the handle from its start; it stays open."""
    handle.seek(0)
    if compression == "gzip":
        with gzip.GzipFile(fileobj=handle, mode="rb") as unpacked:
            yield cast("IO[bytes]", unpacked)
    elif compression == "zstd":
        yield io.BufferedReader(_Zstd(handle))
    else:
        yield handle


class _Zstd(io.RawIOBase):
    """A zstd stream that knows when it was cut short, which the library's own reader passes over in silence."""

    def __init__(self, handle: IO[bytes]) -> None:
        import zstandard

        self._handle = handle
        self._zstandard = zstandard
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._ready = memoryview(b"")
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            packed = self._frame.unused_data if self._frame.eof else b""
            packed = packed or self._handle.read(HEAD)
            if not packed:
                if self._begun and not self._frame.eof:
                    raise EOFError("the zstd stream ends inside a frame")
                return 0
            if self._frame.eof:
                self._frame = self._zstandard.ZstdDecompressor().decompressobj()
            self._begun = True
            self._ready = memoryview(self._frame.decompress(packed))
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size


def _breakages(compression: Compression) -> tuple[type[Exception], ...]:
    """List what reading raises when the disk or an archive fails."""
    if compression != "zstd":
        return (EOFError, OSError, zlib.error)
    import zstandard

    return (EOFError, OSError, zstandard.ZstdError)
