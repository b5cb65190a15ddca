"""Who is at work in this store: file locks that the kernel gives back when a process dies.

A lease is a folder in `tmp/` with a locked file. While its process lives the lock is held, so nobody takes the folder for
litter; after `kill -9` the lock is gone and the next start clears the folder. The gate is one more lock: a writer passes it
shared for the short moment in which a folder becomes an object, a collector holds it alone. So a collector never sees a
writer between two steps.
"""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from budwood.store.durable import storing

LOCK = "lease"
GATE = ".gate"
DIGESTS = "digests"


class Lease:
    """A folder in `tmp/` that is ours until `release` or the end of the process."""

    def __init__(self, tmp: Path, prefix: str) -> None:
        """Make the folder and lock it, with the gate held so that no sweep comes between the two.

        Raises:
            StoreError: the disk is full, or the store may not be written.
        """
        self.folder = tmp / f"{prefix}-{uuid.uuid4().hex}"
        with gate(tmp, exclusive=False), storing("the mark of a process at work", tmp.parent):
            self.folder.mkdir()
            try:
                self._handle: int | None = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
            except OSError:
                self.folder.rmdir()
                raise
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def note(self, digest: str) -> None:
        """Keep an object from being collected while this lease lives."""
        handle = os.open(self.folder / DIGESTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, f"{digest}\n".encode())
        finally:
            os.close(handle)

    def release(self) -> None:
        """Remove the folder and give the lock back; a second call does nothing."""
        if self._handle is None:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._handle)
        self._handle = None


@contextmanager
def gate(tmp: Path, *, exclusive: bool) -> Iterator[None]:
    """Pass the gate of a store, together with other writers or alone.

    Raises:
        StoreError: it is not there and cannot be made.
    """
    with storing("the gate of the store", tmp.parent):
        handle = os.open(tmp / GATE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def sweep(tmp: Path) -> list[str]:
    """Remove what dead processes left in `tmp/`; return the names removed. Live leases are left alone."""
    if all(name.startswith(".") for name in os.listdir(tmp)):
        return []
    with gate(tmp, exclusive=True):
        dead = [entry.name for entry in os.scandir(tmp) if not entry.name.startswith(".") and not _is_alive(Path(entry.path))]
        for name in dead:
            path = tmp / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    return sorted(dead)


def leased_digests(tmp: Path, *, but: Path | None = None) -> set[str]:
    """Collect the objects that live processes hold, those of the lease `but` left out; the gate must be held alone."""
    held: set[str] = set()
    for name in os.listdir(tmp):
        digests = tmp / name / DIGESTS
        if tmp / name != but and digests.is_file() and _is_alive(tmp / name):
            held.update(digests.read_text().split())
    return held


def at_work(tmp: Path, *, but: Path) -> bool:
    """Whether another living process has a lease, `but` being our own; the gate must be held alone."""
    return any(
        not name.startswith(".") and tmp / name != but and (tmp / name / LOCK).is_file() and _is_alive(tmp / name)
        for name in os.listdir(tmp)
    )


def _is_alive(folder: Path) -> bool:
    try:
        handle = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(handle)
