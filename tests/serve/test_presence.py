"""A server says that it is there, again and again, and says once that it cannot."""

import threading
from typing import Any

import pytest

from budwood.errors import StoreError
from budwood.serve import presence
from budwood.serve.presence import Presence
from budwood.store import Store

from .test_promotion import wait_for


def test_it_beats_until_it_is_stopped_and_reports_a_silence_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, beats, events = threading.Event(), list[str](), list[Any]()

    class Catalog:
        def server_beat(self, server_id: str) -> None:
            beats.append(server_id)
            if len(beats) == 6:
                stop.set()
            if len(beats) in (2, 3, 5):
                raise StoreError("The catalog is locked.")

    monkeypatch.setattr(presence, "BEAT_S", 0.001)
    Presence(Catalog(), server_id="a", report=events.append).run(stop)  # type: ignore[arg-type]  # all that it uses
    assert beats == ["a"] * 6
    assert [event.message[:35] for event in events] == ["This server cannot report itself, s"] * 2


def test_a_server_that_runs_goes_on_beating_and_repeats_no_report(nursery: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    beats, reports = list[str](), list[str]()
    beat, observe = Store.server_beat, Store.observe_all
    monkeypatch.setattr(presence, "BEAT_S", 0.01)

    def counted_beat(store: Store, server_id: str) -> None:
        beats.append(server_id)
        beat(store, server_id)

    def counted_report(store: Store, server_id: str, *said: Any) -> None:
        reports.append(server_id)
        observe(store, server_id, *said)

    monkeypatch.setattr(Store, "server_beat", counted_beat)
    monkeypatch.setattr(Store, "observe_all", counted_report)
    nursery.promote(nursery.release("support", 0))
    with nursery.serving() as server:
        wait_for(lambda: len(beats) > 20)
        assert set(beats) == {server.id}
    assert len(reports) == 1
