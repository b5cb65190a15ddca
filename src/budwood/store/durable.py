"""Writing so that a crash leaves the old state or the new one: fsync, then rename.

A rename is the one step that other processes can see. A full disk is told apart from other failures, with what was needed.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from budwood.errors import StoreError
from budwood.new_folder import sync

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}


def write_file(path: Path, data: bytes) -> None:
    """Write a new file and force it to disk; it must not exist."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(path: Path, data: bytes, *, scratch: Path) -> None:
    """Put `data` at `path` in one step; `scratch` is a name on the same file system that is free to use."""
    try:
        write_file(scratch, data)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    sync(path.parent)


def size_under(folder: Path) -> int:
    """Add up the bytes of all files under `folder`, symbolic links not followed."""
    return sum(
        os.lstat(os.path.join(here, name)).st_size for here, _, names in os.walk(folder, followlinks=False) for name in names
    )


@contextmanager
def storing(what: str, root: Path, *, needed: Path | None = None) -> Iterator[None]:
    """Turn the failures of a disk into a `StoreError` that says what was being stored, how much, and what is free.

    Args:
        what: the thing being stored, e.g. "a snapshot".
        root: folder whose file system is meant.
        needed: folder whose size is what was needed, measured at the time of the failure.
    """
    try:
        yield
    except OSError as error:
        size_bytes = size_under(needed) if needed is not None and needed.exists() else 0
        raise disk_error(error, what, root, size_bytes) from error


def disk_error(error: OSError, what: str, root: Path, needed_bytes: int) -> StoreError:
    """Say in our own words what a failed write means."""
    if error.errno in _FULL:
        free = shutil.disk_usage(root).free
        amount = f"{needed_bytes:,} bytes were needed so far, " if needed_bytes else ""
        return StoreError(
            f"The disk is full: {what} was not stored; {amount}{free:,} bytes are free.",
            where=str(root),
            mend="Nothing was changed. Free some space, then run again.",
        )
    if error.errno in _CLOSED:
        return StoreError(
            f"The store may not be written: {what} was not stored ({error.strerror}).",
            where=str(root),
            mend="Nothing was changed. Check owner, permissions and mount of that folder.",
        )
    return StoreError(f"{what[0].upper()}{what[1:]} was not stored: {error}.", where=str(root), mend="Nothing was changed.")


def is_full(error: BaseException) -> bool:
    """Tell whether an error, also one of a library that hides the errno in its text, means a full disk."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    return os.strerror(errno.ENOSPC) in str(error)
