"""Tar files as an archive of releases uses them: plain files only, the same bytes each time, and a strict reader.

Written are USTAR headers (with the GNU form of the size from 8 GiB on), no times, no owners. Read is only that: a link, a
device, a folder, an extended header or a sparse file has no place in an archive of ours, so none of them is ever interpreted.
What is not compressed cannot swell: all members together are never larger than the file.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from budwood.errors import ReleaseError, StoreError
from budwood.store.names import check_paths

BLOCK = 512
MAX_MEMBERS = 100_000
_LARGEST_USTAR = 8**11
_MEND = "Nothing was imported. Fetch it again, or export the release again with `budwood release export`."


@dataclass(frozen=True)
class Member:
    """One file in a tar: where its bytes lie."""

    name: str
    path: Path
    offset: int
    size: int

    def read(self, most: int) -> bytes:
        """Read it whole.

        Raises:
            ReleaseError: it has more than `most` bytes.
        """
        if self.size > most:
            raise ReleaseError(f"{self.name} has {self.size:,} bytes, more than {most:,}.", where=str(self.path), mend=_MEND)
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """Read it in pieces of 1 MiB.

        Raises:
            ReleaseError: the file became shorter meanwhile.
        """
        left = self.size
        with self.path.open("rb") as file:
            file.seek(self.offset)
            while left:
                piece = file.read(min(left, 1 << 20))
                if not piece:
                    raise ReleaseError(f"{self.name} is cut off.", where=str(self.path), mend=_MEND)
                left -= len(piece)
                yield piece


def add_member(file: BinaryIO, name: str, size: int, pieces: Iterator[bytes]) -> None:
    """Write one file's header and bytes.

    Raises:
        ReleaseError: a name that does not fit a header, or other than `size` bytes came.
    """
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, 0
    try:
        if size < _LARGEST_USTAR:
            header = info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
        else:
            header = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")
    except ValueError as error:
        raise ReleaseError(f"{name!r} cannot be named in a tar file: {error}.", mend="Give the file a shorter name.") from None
    if len(header) != BLOCK:
        raise ReleaseError(f"{name!r} cannot be named in a tar file.", mend="Give the file a shorter name.")
    file.write(header)
    written = 0
    for piece in pieces:
        written += file.write(piece)
    if written != size:
        raise ReleaseError(f"{name} has {written:,} bytes, not {size:,}: it changed while it was exported.", mend="Try again.")
    file.write(bytes(-size % BLOCK))


def end(file: BinaryIO) -> None:
    """Write the two empty blocks that end a tar file."""
    file.write(bytes(2 * BLOCK))


def read_members(path: Path) -> list[Member]:
    """List the files in a tar file, from its headers; nothing is extracted.

    Raises:
        ReleaseError: it is no tar file as `add_member` writes them: compressed, cut off, with bytes behind its end, with
            anything but plain files, with a path that leaves its folder or is there twice, or with too many members.
    """
    members: list[Member] = []
    size = path.stat().st_size
    with path.open("rb") as file:
        at = 0
        while True:
            file.seek(at)
            header = file.read(BLOCK)
            if len(header) < BLOCK:
                raise _refused(path, f"is cut off after {at:,} bytes" if at else "is no tar file")
            if not any(header):
                break
            member = _member(path, header, at)
            at = member.offset + member.size + (-member.size % BLOCK)
            if at > size:
                raise _refused(path, f"is cut off inside {member.name!r}")
            members.append(member)
            if len(members) > MAX_MEMBERS:
                raise _refused(path, f"has more than {MAX_MEMBERS:,} members")
        _check_end(path, file, at, size)
    try:
        check_paths((member.name for member in members), kept=(), where=str(path))
    except StoreError as error:
        raise ReleaseError(error.what, where=str(path), mend=_MEND) from None
    return members


def _member(path: Path, header: bytes, at: int) -> Member:
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError):
        raise _refused(path, f"has no tar header at byte {at:,}; compressed archives are not read") from None
    if info.type != tarfile.REGTYPE:
        kind = _KINDS.get(info.type, "no plain file")
        raise _refused(path, f"holds {info.name[:120]!r}, which is {kind}")
    if info.size < 0:
        raise _refused(path, f"gives {info.name[:120]!r} a size of {info.size}")
    return Member(info.name, path, at + BLOCK, info.size)


def _check_end(path: Path, file: BinaryIO, at: int, size: int) -> None:
    """Everything behind the last member is one block of zeros and the next, to the file's end."""
    if size != at + 2 * BLOCK:
        raise _refused(path, f"has {size - at:,} bytes behind its last member, not {2 * BLOCK:,}")
    file.seek(at)
    if any(file.read(2 * BLOCK)):
        raise _refused(path, "has bytes behind its end")


_KINDS = {
    tarfile.AREGTYPE: "a file of an old format",
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.DIRTYPE: "a folder",
    tarfile.FIFOTYPE: "a FIFO",
    tarfile.CONTTYPE: "a file of an odd kind",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
    tarfile.GNUTYPE_LONGNAME: "an extended header",
    tarfile.GNUTYPE_LONGLINK: "an extended header",
    tarfile.XHDTYPE: "an extended header",
    tarfile.XGLTYPE: "an extended header",
}


def _refused(path: Path, what: str) -> ReleaseError:
    return ReleaseError(f"{path.name} {what}.", where=str(path.parent), mend=_MEND)
