"""A release that is asked for is loaded and proved before an alias moves to it, and stays until then."""

from typing import Any

import httpx
import pytest

from budwood.release.promote import warm_up
from budwood.serve.loader import Loader
from budwood.store import ReleaseRow

from .test_demand import loaded
from .test_follow import answering
from .test_promotion import PATIENCE_S, follows, wait_for


def test_it_is_ready_before_the_alias_moves_and_stays_until_then(nursery: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []
    original = Loader.load

    def load(self: Loader, row: ReleaseRow) -> Any:
        loads.append(row.digest)
        return original(self, row)

    monkeypatch.setattr(Loader, "load", load)
    first, second, third = (nursery.release("support", number) for number in (0, 1, None))
    nursery.promote(first)
    # Without memory for what nobody needs, each look unloads whatever is idle.
    with nursery.serving(adapter_memory_mb=0) as server:
        for row in (second, third):
            warm_up(nursery.store, row, wait_s=PATIENCE_S)
            assert [report.ok for report in nursery.store.warmups.reports(row.digest)] == [True]
        httpx.post(f"{server.url}/admin/sync", json={}, timeout=PATIENCE_S)
        assert loaded(server) == {first.digest, second.digest, third.digest}
        assert answering(server, "support") == first.digest
        nursery.promote(second)
        wait_for(lambda: follows(nursery, "support", second.digest))
        assert answering(server, "support") == second.digest
        for row in (second, third):
            nursery.store.warmups.end("support", row.digest)
        wait_for(lambda: loaded(server) == {first.digest, second.digest})
    assert loads == [first.digest, second.digest, third.digest]


def test_a_release_that_is_refused_is_said_to_be_and_holds_nobody_up(nursery: Any) -> None:
    first, spoilt = nursery.release("support", 0), nursery.release("support", 1, shift=0.5)
    nursery.promote(first)
    with nursery.serving() as server:
        warm_up(nursery.store, spoilt, wait_s=PATIENCE_S)
        (report,) = nursery.store.warmups.reports(spoilt.digest)
        assert not report.ok
        assert "golden probes failed" in report.detail
        assert loaded(server) == {first.digest}
        assert nursery.store.find_release("support").digest == first.digest
