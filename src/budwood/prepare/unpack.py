"""What a file is packed with, and its bytes unpacked, a little at a time: no archive can fill the memory."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Literal, cast

from budwood.errors import DataError

Compression = Literal["", "gzip", "zstd"]
PACKED_BYTES = 1 << 12
"""Read of a zstd file at a time: these can unpack to 30,000 times as much at once."""
BOMB_RATIO, BOMB_BYTES = 500, 1 << 30
"""What unpacks to more than both is taken for an archive made to fill a disk: rows pack to a twentieth or so."""


def compression_of(magic: bytes) -> Compression:
    return "gzip" if magic[:2] == b"\x1f\x8b" else "zstd" if magic[:4] == b"\x28\xb5\x2f\xfd" else ""


@contextmanager
def unpacked(handle: IO[bytes], compression: Compression) -> Iterator[IO[bytes]]:
    """Read the handle from its start; it stays open."""
    handle.seek(0)
    if compression == "gzip":
        with gzip.GzipFile(fileobj=handle, mode="rb") as stream:
            yield cast("IO[bytes]", stream)
    elif compression == "zstd":
        yield io.BufferedReader(_Zstd(handle))
    else:
        yield handle


def chunks(stream: IO[bytes], size: int) -> Iterator[bytes]:
    while chunk := stream.read(size):
        yield chunk


def check_ratio(unpacked_bytes: int, packed_bytes: int, shown: str) -> None:
    """Refuse an archive that unpacks to a multiple of itself that rows never reach.

    Raises:
        DataError: it does.
    """
    if unpacked_bytes > BOMB_BYTES and unpacked_bytes > BOMB_RATIO * packed_bytes:
        raise DataError(
            f"{shown} unpacks to more than {BOMB_RATIO} times its {packed_bytes:,} bytes.",
            mend="Rows do not pack that well: it may be made to fill a disk. If they are yours, unpack the file yourself.",
        )


def breakages(compression: Compression) -> tuple[type[Exception], ...]:
    """List what reading raises when the disk or an archive fails."""
    if compression != "zstd":
        return (EOFError, OSError, zlib.error)
    import zstandard

    return (EOFError, OSError, zstandard.ZstdError)


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
            packed = packed or self._handle.read(PACKED_BYTES)
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
