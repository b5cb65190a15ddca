"""The same catalog on PostgreSQL; runs where BUDWOOD_POSTGRES names an empty database that may be written."""

import os
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from sqlalchemy import Connection, create_engine, text

from budwood.errors import StoreError
from budwood.store import AliasRow, Store, open_store
from budwood.store.registry import alias_rows
from budwood.store.schema import metadata

from .conftest import Clock, put


@pytest.fixture
def url() -> str:
    given = os.environ.get("BUDWOOD_POSTGRES", "")
    if not given:
        pytest.skip("set BUDWOOD_POSTGRES to the SQLAlchemy URL of an empty PostgreSQL database")
    engine = create_engine(given)
    with engine.begin() as connection:
        metadata.drop_all(connection)
        connection.execute(text("DROP TABLE IF EXISTS alembic_version"))
    engine.dispose()
    return given


@pytest.fixture
def postgres(url: str, tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "s", url=url, clock=Clock()) as store:
        yield store


def test_of_threads_that_move_an_alias_at_once_exactly_one_wins(postgres: Store, url: str) -> None:
    releases = [put(postgres, "release", body={"n": number}) for number in range(3)]
    assert [postgres.add_release("support", digest, who="x", reason="") for digest in releases] == [1, 2, 3]
    postgres.move_alias("support", "production", releases[0], expect=None, who="x", reason="")
    said: list[str] = []

    def move(target: str) -> None:
        with open_store(postgres.root, url=url, clock=Clock()) as store:
            try:
                store.move_alias("support", "production", target, expect=releases[0], who="x", reason="")
                said.append("won")
            except StoreError as error:
                said.append(error.what)

    threads = [Thread(target=move, args=(releases[1 + number % 2],)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said.count("won") == 1
    assert postgres.verify().ok


def test_everything_else_of_the_catalog(postgres: Store) -> None:
    base = put(postgres, "base")
    release = put(postgres, "release", parents=[base])
    key = postgres.action("release", 1, {}, [], 0)
    postgres.record(key, base)
    postgres.record(key, release)
    assert postgres.done(key) == release
    assert postgres.children(base) == [release]
    postgres.add_release("support", release, who="x", reason="")
    postgres.observe("a", "support", "production", release, True, "")
    postgres.observe("a", "support", "production", release, False, "probes")
    assert [row.ok for row in postgres.observed("support")] == [False]
    postgres.forget_server("a")
    assert postgres.observed() == []
    postgres.tombstone(base, who="x", reason="asked for")
    assert postgres.verify().ok


def test_a_read_sees_one_state_of_the_catalog(postgres: Store, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A promotion between two statements of one look: by PostgreSQL's default the second would see it."""
    release = put(postgres, "release")
    postgres.add_release("support", release, who="x", reason="")

    def late(connection: Connection) -> list[AliasRow]:
        monkeypatch.undo()
        with open_store(postgres.root, url=url, clock=Clock()) as other:
            other.move_alias("support", "production", release, who="y", reason="")
        return alias_rows(connection)

    monkeypatch.setattr("budwood.store.state.alias_rows", late)
    state = postgres._parts.read_state()
    assert (len(state.events), len(state.aliases)) == (1, 0)
    assert postgres.verify().ok
