"""The portable archive: one uncompressed tar with a bundle in it; the same release gives the same bytes."""

import os
from pathlib import Path

from budwood.errors import ReleaseError
from budwood.identity import Digest, digest_file
from budwood.new_folder import sync
from budwood.release.bundle import Bundle
from budwood.release.tar_file import Member, add_member, end, read_members


def write_archive(bundle: Bundle, to: Path) -> Digest:
    """Write a bundle as a tar that appears whole or not at all; return its sha256.

    Raises:
        ReleaseError: something is there already, or a file's name does not fit.
        OSError: the disk refuses.
    """
    refuse_existing(to)
    to.parent.mkdir(parents=True, exist_ok=True)
    made = to.with_name(f".{to.name}.{os.getpid()}.new")
    try:
        with made.open("xb") as file:
            for piece in bundle.pieces:
                add_member(file, piece.name, piece.size, piece.pieces())
            end(file)
            file.flush()
            os.fsync(file.fileno())
        digest = digest_file(made)
        # A link, not a rename: it fails where somebody has put a file there meanwhile.
        os.link(made, to)
    finally:
        made.unlink(missing_ok=True)
    sync(to.parent)
    return digest


def read_archive(path: Path) -> dict[str, Member]:
    """List the members of an archive.

    Raises:
        ReleaseError: see `read_members`.
    """
    return {member.name: member for member in read_members(path)}


def refuse_existing(to: Path) -> None:
    """Refuse a place where something is.

    Raises:
        ReleaseError: that.
    """
    if os.path.lexists(to):
        raise ReleaseError(f"{str(to)!r} is there already.", where="--to", mend="Nothing was changed. Name a new place.")
