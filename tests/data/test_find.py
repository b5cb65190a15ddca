"""Which snapshot is meant by what a person types."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from budwood.data.find import find_snapshot, snapshots
from budwood.errors import StoreError
from budwood.store import Store, open_store

from .conftest import put


@pytest.fixture
def store(tmp_path: Path) -> Store:
    moments = (datetime(2026, 9, 1, tzinfo=UTC) + timedelta(minutes=minute) for minute in range(10_000))
    return open_store(tmp_path / ".budwood", clock=lambda: next(moments))


def test_a_name_is_its_newest_and_nothing_is_the_newest_of_all(store: Store) -> None:
    old, new, other = (
        put(store, "snapshot", parents=[], name=name, number=number)
        for number, name in enumerate(("support", "support", "triage"))
    )
    assert [one.digest for one in snapshots(store)] == [old, new, other]
    assert [one.digest for one in snapshots(store, "support")] == [old, new]
    assert find_snapshot(store) == other
    assert find_snapshot(store, "support") == new
    assert find_snapshot(store, old[:8]) == find_snapshot(store, f"{old[:12]}…") == old
    again = put(store, "snapshot", parents=[], name="support", number=0)
    assert again == old
    assert find_snapshot(store, "support") == old, "what was made again last is the newest"


def test_a_selection_is_meant_by_its_digits_alone(store: Store) -> None:
    prepared = put(store, "snapshot", parents=[], name="support")
    drawn = put(store, "snapshot", parents=[prepared], name="support", selection={"by": "random", "parent": prepared})
    assert snapshots(store)[-1].digest == drawn
    assert find_snapshot(store) == find_snapshot(store, "support") == prepared
    assert find_snapshot(store, drawn[:8]) == drawn
    alone = put(store, "snapshot", parents=[], name="other", selection={"by": "ifd", "parent": prepared})
    assert find_snapshot(store, "other") == alone


def test_runs_and_releases_lead_to_what_they_were_trained_on(store: Store) -> None:
    snapshot = put(store, "snapshot", parents=[], name="support")
    put(store, "snapshot", parents=[], name="later")
    run = put(store, "run", parents=[snapshot], method="lora")
    release = put(store, "release", parents=[snapshot, run], name="support", run=run)
    store.add_release("support", release, who="anna", reason="")
    store.move_alias("support", "production", release, who="anna", reason="")
    for ref in ("support@production", "support@1", release[:9], run[:9]):
        assert find_snapshot(store, ref) == snapshot
    base = put(store, "base", parents=[], id="seedling")
    with pytest.raises(StoreError, match="was made from no snapshot"):
        find_snapshot(store, base[:9])


def test_what_is_not_there_is_said_with_what_is(store: Store) -> None:
    with pytest.raises(StoreError, match="no snapshot in this store"):
        find_snapshot(store, "")
    put(store, "snapshot", parents=[], name="support")
    with pytest.raises(StoreError, match="No snapshot is called 'suport'"):
        find_snapshot(store, "suport")
    with pytest.raises(StoreError, match="No object begins with abcdef"):
        find_snapshot(store, "abcdef")


def test_a_removed_snapshot_is_listed_with_its_reason(store: Store) -> None:
    gone = put(store, "snapshot", parents=[], name="support")
    store.tombstone(gone, who="anna", reason="a customer asked")
    (listed,) = snapshots(store)
    assert (listed.digest, listed.removed, listed.name) == (gone, "a customer asked", "")
    assert listed.uses(store) == []
    assert snapshots(store, "support") == []
