"""Files of sampled requests: where they lie, and how several processes append to them, shorten them and drop old ones.

    .budwood/traffic/support/served-2026-11-26-host_8321_77.jsonl          conversations that were answered
                             served-plain-2026-11-26-….jsonl                the same of plain prompts
                             shadow-2026-11-26-….jsonl                      what a shadow answered, never sent

One record a line, one file a day (UTC), kind and server. What a record holds is the server's affair; here a line is bytes.
They are no objects: they grow, and are meant to go. Only this user may read them.
"""

import fcntl
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from pathlib import Path

FOLDER = "traffic"
_FILE = re.compile(r"([a-z-]+?)-(\d{4}-\d{2}-\d{2})-(.+)\.jsonl")


def place(root: Path, name: str, kind: str, day: date, server_id: str) -> Path:
    """Where a server writes records of one kind and day."""
    return root / FOLDER / name / f"{kind}-{day.isoformat()}-{re.sub(r'[^A-Za-z0-9._]', '_', server_id)}.jsonl"


def files(root: Path, name: str | None = None, *, kinds: Sequence[str] = ()) -> list[Path]:
    """All files, or those of one name and of some kinds, oldest first."""
    found = [path for path in (root / FOLDER).glob(f"{name or '*'}/*.jsonl") if _FILE.fullmatch(path.name)]
    return sorted((path for path in found if not kinds or kind_of(path) in kinds), key=lambda path: (day_of(path), path))


def kind_of(path: Path) -> str:
    return _part(path, 1)


def day_of(path: Path) -> date:
    return date.fromisoformat(_part(path, 2))


def append(path: Path, lines: Sequence[bytes]) -> None:
    """Add whole lines at the end of a file; those that did not all fit on the disk leave nothing behind.

    Raises:
        OSError: the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(path, os.O_RDWR | os.O_CREAT | os.O_APPEND) as handle:
        size = os.fstat(handle).st_size
        # A process that was killed may have left half a line: it stays a line of its own.
        torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        data = (b"\n" if torn else b"") + b"".join(line + b"\n" for line in lines)
        try:
            _write(handle, data)
        except OSError:
            with suppress(OSError):
                os.ftruncate(handle, size)
            raise


def shorten(path: Path, keep: Callable[[bytes], bool]) -> int:
    """Take lines out of a file, for good; give how many. Cut short, the file is as it was.

    Raises:
        OSError: the disk refuses. The file is as it was.
    """
    try:
        with _locked(path, os.O_RDWR) as handle:
            lines = os.pread(handle, os.fstat(handle).st_size, 0).splitlines(keepends=True)
            kept = [line for line in lines if keep(line.rstrip(b"\r\n"))]
            if len(kept) == len(lines):
                return 0
            if not kept:
                path.unlink()
                return len(lines)
            fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
            try:
                target = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                try:
                    _write(target, b"".join(kept))
                    os.fsync(target)
                finally:
                    os.close(target)
                # Those who wait for the lock of the old file find that it is not this place's any more.
                os.replace(fresh, path)
            except OSError:
                fresh.unlink(missing_ok=True)
                raise
            return len(lines) - len(kept)
    except FileNotFoundError:
        return 0


def drop_older(root: Path, days: int, today: date) -> list[Path]:
    """Remove the files of days that lie further back than so many; give them."""
    limit = today - timedelta(days=days)
    old = [path for path in files(root) if day_of(path) < limit]
    for path in old:
        path.unlink(missing_ok=True)
    return old


def _part(path: Path, number: int) -> str:
    found = _FILE.fullmatch(path.name)
    if found is None:
        raise ValueError(f"{path.name} is no file of requests")
    return found[number]


@contextmanager
def _locked(path: Path, flags: int) -> Iterator[int]:
    """Open a file and hold it alone; again, if another one has taken its place meanwhile."""
    while True:
        handle = os.open(path, flags, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_at(handle, path):
                yield handle
                return
        finally:
            os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
