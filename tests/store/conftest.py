"""A store with a clock that tests can set, and objects made in one line."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from budwood.identity import Digest
from budwood.store import Kind, Store, open_store


class Clock:
    """Ticks one second each time it is read; `now` can be set."""

    def __init__(self) -> None:
        self.now = datetime(2026, 9, 1, 14, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


Maker = Callable[..., Digest]


def put(store: Store, kind: Kind, files: dict[str, str] | None = None, **parts: Any) -> Digest:
    """Commit an object with these files."""
    with store.draft(kind) as draft:
        for name, text in (files or {"a.txt": "a"}).items():
            path = draft.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return draft.commit(**parts)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder in memory where there is one: these tests fsync a lot, and a busy disk would make them slow."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() and os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    with open_store(tmp_path / ".budwood", clock=clock) as opened:
        yield opened


@pytest.fixture
def make(store: Store) -> Maker:
    def make_object(kind: Kind = "snapshot", files: dict[str, str] | None = None, **parts: Any) -> Digest:
        return put(store, kind, files, **parts)

    return make_object
