"""A store with a clock that tests can set, and objects made in one line."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.pool import NullPool

from budwood.identity import Digest
from budwood.store import Kind, Store, open_store
from budwood.store.history import GENESIS
from budwood.store.schema import metadata


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


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def backend(request: pytest.FixtureRequest) -> str:
    """URL of an empty catalog; "" is SQLite in the store's folder. `on_sqlite` marks tests of that file itself."""
    if request.param == "sqlite":
        return ""
    url: str = request.getfixturevalue("postgres_server")
    empty(url)
    return url


on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("backend", ["postgres"], indirect=True)
on_both = pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)
"""Both in the quick suite, too."""


def empty(url: str) -> None:
    """Take back a database to nothing; what an earlier test has left open is cut off."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        connection.execute(text(f"SELECT pg_terminate_backend(pid) {others}"))
        if inspect(connection).has_table("alembic_version"):
            names = ", ".join(table.name for table in metadata.sorted_tables)
            connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY"))
            connection.execute(text(f"INSERT INTO history_head VALUES (1, 0, '{GENESIS}')"))


def edit(store: Store, *statements: str) -> None:
    """Write into the catalog behind the store's back."""
    place = store.catalog_place()
    engine = create_engine(place if "://" in place else f"sqlite:///{place}", poolclass=NullPool)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


@pytest.fixture
def store(tmp_path: Path, clock: Clock, backend: str) -> Iterator[Store]:
    with open_store(tmp_path / ".budwood", url=backend, clock=clock) as opened:
        # Once, so that the store knows its catalog and may be opened without the URL.
        opened.aliases()
        yield opened


@pytest.fixture
def make(store: Store) -> Maker:
    def make_object(kind: Kind = "snapshot", files: dict[str, str] | None = None, **parts: Any) -> Digest:
        return put(store, kind, files, **parts)

    return make_object
