"""A catalog that cannot be written, and a clock that goes backwards, under a running server: it answers, and follows again."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from budwood.errors import StoreError
from budwood.release.promote import promote, rollback
from budwood.store import open_store

from .conftest import Nursery
from .test_promotion import ask, follows, wait_for


def test_a_locked_catalog_stops_no_answer_and_no_later_promotion(nursery: Any) -> None:
    first, second = nursery.release("support", 0), nursery.release("support", 1)
    nursery.promote(first)
    with nursery.serving() as server:
        lock = sqlite3.connect(nursery.store.root / "catalog.sqlite", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        with (
            open_store(nursery.store.root, wait_s=0.05) as hasty,
            pytest.raises(StoreError, match="The catalog is locked by another process"),
        ):
            hasty.move_alias("support", "production", second.digest, who="t", reason="")
        before = nursery.store.history()
        for _ in range(5):
            assert ask(server).json()["system_fingerprint"] == first.digest
        lock.execute("ROLLBACK")
        lock.close()
        assert nursery.store.history() == before
        nursery.promote(second)
        wait_for(lambda: follows(nursery, "support", second.digest))
        assert ask(server).json()["system_fingerprint"] == second.digest
    assert nursery.store.verify().ok


def test_bad_60_a_clock_that_goes_back_moves_nothing_back(soil: Any, tmp_path: Path) -> None:
    now = [datetime(2026, 9, 1, 14, 0, tzinfo=UTC)]
    with open_store(tmp_path / ".budwood", clock=lambda: now[0]) as store:
        nursery = Nursery(soil, store)
        bound = {"object": nursery.base_object()}
        first, second = nursery.release("support", 0, changes=bound), nursery.release("support", 1, changes=bound)
        promote(store, "support@1", who="t", reason="", override="first")
        with nursery.serving() as server:
            for digest, step in ((second.digest, timedelta(hours=-1)), (first.digest, timedelta(days=-400))):
                now[0] += step
                if digest == second.digest:
                    promote(store, "support@2", who="t", reason="", override="better")
                else:
                    rollback(store, "support", who="t", reason="worse")
                wait_for(lambda digest=digest: follows(nursery, "support", digest))  # type: ignore[misc]
                assert ask(server).json()["system_fingerprint"] == digest
        assert store.verify().ok
        moves = [event for event in store.history("support") if event.kind in ("promoted", "rolled_back")]
        assert [event.to for event in moves] == [first.digest, second.digest, first.digest]
        assert [event.seq for event in moves] == sorted(event.seq for event in moves)
        assert store.aliases()[0].digest == first.digest
