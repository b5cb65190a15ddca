"""What is particular to a catalog on PostgreSQL; the other tests of this room run on both databases."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from budwood.errors import StoreError
from budwood.store import AliasRow, Store, open_store
from budwood.store.index import object_rows
from budwood.store.registry import alias_rows

from .conftest import Clock, Maker, edit, on_postgres, put

pytestmark = on_postgres


def test_everything_of_the_catalog(store: Store) -> None:
    base = put(store, "base")
    release = put(store, "release", parents=[base])
    key = store.action("release", 1, {}, [], 0)
    store.record(key, base)
    store.record(key, release)
    assert store.done(key) == release
    assert store.children(base) == [release]
    store.add_release("support", release, who="x", reason="")
    store.observe("a", "support", "production", release, True, "")
    store.observe("a", "support", "production", release, False, "probes")
    assert [row.ok for row in store.observed("support")] == [False]
    store.forget_server("a")
    assert store.observed() == []
    store.tombstone(base, who="x", reason="asked for")
    assert store.verify().ok


def test_a_read_sees_one_state_of_the_catalog(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A promotion between two statements of one look: by PostgreSQL's default the second would see it."""
    release = put(store, "release")
    store.add_release("support", release, who="x", reason="")

    def late(connection: Connection) -> list[AliasRow]:
        monkeypatch.undo()
        with open_store(store.root, clock=Clock()) as other:
            other.move_alias("support", "production", release, who="y", reason="")
        return alias_rows(connection)

    monkeypatch.setattr("budwood.store.state.alias_rows", late)
    state = store._parts.read_state()
    assert (len(state.events), len(state.aliases)) == (1, 0)
    assert store.verify().ok


def test_a_locked_catalog_is_said_and_nothing_changes(store: Store, make: Maker) -> None:
    digest = make("release")
    blocker = create_engine(store.catalog_place(), poolclass=NullPool)
    with blocker.begin() as connection:
        connection.execute(text("SELECT * FROM history_head FOR UPDATE"))
        with (
            open_store(store.root, wait_s=0.05) as hasty,
            pytest.raises(StoreError, match=r"The catalog is locked by another process; waited 0\.05 s"),
        ):
            hasty.add_release("support", digest, who="anna", reason="")
    assert store.history() == []
    assert store.add_release("support", digest, who="anna", reason="") == 1


def test_a_catalog_that_is_gone_is_said(store: Store, make: Maker, tmp_path: Path) -> None:
    digest = make("release")
    (store.root / "catalog.url").write_text(f"postgresql+psycopg://budwood@/postgres?host={tmp_path}\n")
    with (
        open_store(store.root) as other,
        pytest.raises(StoreError, match=r"The catalog cannot be reached: .*No such file") as caught,
    ):
        other.add_release("support", digest, who="anna", reason="")
    assert "PGPASSWORD" in caught.value.mend


def test_a_store_remembers_its_catalog(store: Store, backend: str, tmp_path: Path) -> None:
    store.add_release("support", put(store, "release"), who="x", reason="")
    with open_store(store.root) as other:
        assert other.catalog_place() == backend
        assert len(other.releases()) == 1
    assert not (store.root / "catalog.sqlite").exists()
    with pytest.raises(StoreError, match="keeps its catalog in another database"):
        open_store(store.root, url=backend + "&application_name=x").aliases()
    with pytest.raises(StoreError, match="holds the catalog of another store"):
        open_store(tmp_path / "second", url=backend).aliases()
    open_store(tmp_path / "third").aliases()
    with pytest.raises(StoreError, match="has its catalog in its own folder"):
        open_store(tmp_path / "third", url=backend).aliases()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Store]:
    """A store on SQLite with two releases, a move and what a server said."""
    with open_store(tmp_path / "local", clock=Clock()) as store:
        for number in (1, 2):
            store.add_release("support", put(store, "release", body={"n": number}), who="x", reason="")
        store.move_alias("support", "production", store.find_release("support@1").digest, who="x", reason="")
        store.observe("a", "support", "production", store.find_release("support@1").digest, True, "")
        store.forget_server("a")
        yield store


def test_a_catalog_moves_whole_and_back(local: Store, backend: str) -> None:
    store, before = local, local.history()
    moment = store._clock()
    store.move_catalog(backend)
    assert store.catalog_place() == backend
    assert store.history() == before
    store.move_alias("support", "production", store.find_release("support@2").digest, who="x", reason="")
    store.observe("a", "support", "production", store.find_release("support@2").digest, True, "")
    store.forget_server("a")
    assert store.verify().ok
    assert [name for name in os.listdir(store.root) if name.startswith("catalog")] == ["catalog.url"]
    store.move_catalog("")
    assert store.catalog_place() == str(store.root / "catalog.sqlite")
    assert len(store.history()) == len(before) + 1
    assert store.live_at("support", "production", moment) == store.find_release("support@1").digest
    assert store.verify().ok


def test_moving_to_where_it_is_changes_nothing_and_a_file_that_is_in_the_way_stays(local: Store, backend: str) -> None:
    assert local.move_catalog("") == 0
    assert local.move_catalog(backend) > 0
    assert local.move_catalog(backend) == 0
    (local.root / "catalog.sqlite").write_text("somebody's")
    with pytest.raises(StoreError, match=r"There is a catalog\.sqlite in this store already"):
        local.move_catalog("")
    assert (local.root / "catalog.sqlite").read_text() == "somebody's"
    assert local.catalog_place() == backend
    assert local.verify().ok


def test_a_copy_of_the_same_past_in_which_somebody_works_is_not_overwritten(local: Store, backend: str, tmp_path: Path) -> None:
    """A folder that was copied: both know the database, and only one of them may have it."""
    local.move_catalog(backend)
    shutil.copytree(local.root, tmp_path / "copy")
    with open_store(tmp_path / "copy", clock=Clock()) as copy:
        copy.move_catalog("")
        copy.move_alias("support", "production", copy.find_release("support@2").digest, who="x", reason="")
        with pytest.raises(StoreError, match="is not empty"):
            copy.move_catalog(backend)
    assert local.aliases()[0].version == 1
    assert local.verify().ok


def test_a_catalog_does_not_move_while_somebody_works_or_to_where_something_is(local: Store, backend: str) -> None:
    with open_store(local.root) as other:
        put(other, "run")
        with pytest.raises(StoreError, match="Another process works with this store"):
            local.move_catalog(backend)
    local.server_beat("a")
    with pytest.raises(StoreError, match="Another process works with this store"):
        local.move_catalog(backend)
    local.forget_server("a")
    edit(local, "UPDATE history SET who = 'eve' WHERE seq = 1")
    with pytest.raises(StoreError, match="The history was altered"):
        local.move_catalog(backend)
    edit(local, "UPDATE history SET who = 'x' WHERE seq = 1")
    with open_store(local.root.parent / "other", url=backend) as other:
        other.add_release("billing", put(other, "release"), who="x", reason="")
    with pytest.raises(StoreError, match="is not empty"):
        local.move_catalog(backend)
    assert local.verify().ok


class Killed(BaseException):
    """Stands for the end of the process."""


def die(*_: object) -> None:
    raise Killed


def test_a_move_of_a_store_without_history_that_was_cut_short_is_finished(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(tmp_path / "store", clock=Clock()) as store:
        digest = put(store, "run")
        with monkeypatch.context() as patch:
            patch.setattr("budwood.store.moving.remember", die)
            with pytest.raises(Killed):
                store.move_catalog(backend)
        assert store.move_catalog(backend) > 0
        assert [*store.objects()] == [digest]
        assert store.verify().ok


def test_a_database_that_somebody_took_after_a_move_was_cut_short_stays_theirs(
    local: Store, tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("budwood.store.moving._copy", die)
        with pytest.raises(Killed):
            local.move_catalog(backend)
    with open_store(tmp_path / "other", url=backend, clock=Clock()) as other:
        theirs = put(other, "base")
        with pytest.raises(StoreError, match="is not empty"):
            local.move_catalog(backend)
        with other._parts.catalog.read() as connection:
            assert [*object_rows(connection)] == [theirs]
