"""Files in a draft's scratch folder that take what is finished, until it is known where it goes.

    spool = Spool(folder, "rows-0")
    place = spool.add(data)              # Place("rows-0", offset, size)
    read_place(folder, place)

Each process writes into files of its own; anyone may read them.
"""

import os
from pathlib import Path
from typing import NamedTuple


class Place(NamedTuple):
    """Bytes in a spool."""

    name: str
    start: int
    size: int


class Spool:
    """A file that only grows."""

    def __init__(self, folder: Path, name: str) -> None:
        self._name, self._end = name, 0
        self._handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def add(self, data: bytes) -> Place:
        place = Place(self._name, self._end, len(data))
        write_at(self._handle, data, self._end)
        self._end += len(data)
        return place

    def close(self) -> None:
        os.close(self._handle)


class Shelf:
    """Spools that are read; opened when first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handles: dict[str, int] = {}

    def read(self, name: str, start: int, size: int) -> bytes:
        handle = self._handles.get(name)
        if handle is None:
            handle = self._handles[name] = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
        data = os.pread(handle, size, start)
        while len(data) < size:
            more = os.pread(handle, size - len(data), start + len(data))
            if not more:
                raise AssertionError(f"{name} ends at {start + len(data):,}, {size:,} bytes from {start:,} on were asked for")
            data += more
        return data

    def close(self) -> None:
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()


def write_at(handle: int, data: bytes, start: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, start)
        view, start = view[written:], start + written
