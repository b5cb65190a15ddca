"""A folder that appears whole or not at all: written beside its place, forced to disk, renamed.

    with new_folder(Path("merged")) as folder:
        (folder / "config.json").write_text("{}")        # "merged" is there when the block has ended, and not before

A failure removes what was written. After `kill -9` it lies there as `.merged.<pid>.new`; the kernel has given its lock back,
and the next one for the same place clears it away.
"""

import fcntl
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """Give a folder to write into, which becomes `place` at the end of the block.

    Args:
        place: nothing yet, or an empty folder. Folders above it are made.

    Raises:
        OSError: the disk refuses, or `place` holds something.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    _sweep(place)
    folder = place.with_name(f".{place.name}.{os.getpid()}.new")
    folder.mkdir()
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
        for path in (*folder.rglob("*"), folder):
            sync(path)
        os.replace(folder, place)
        sync(place.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def sync(path: Path) -> None:
    """Force a file's bytes, or a folder's entries, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sweep(place: Path) -> None:
    """Clear away what processes left that died while they wrote here; one that is alive holds its lock."""
    for left in place.parent.glob(f".{glob.escape(place.name)}.*.new"):
        with suppress(FileNotFoundError, BlockingIOError):  # its process has just ended, or is alive
            handle = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(handle)
