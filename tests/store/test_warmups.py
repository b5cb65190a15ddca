"""Releases that servers are asked to have ready: for a while, and with the answers to the last asking only."""

from datetime import timedelta

from budwood.store import HistoryEvent, Store

from .conftest import Clock

FIRST, SECOND = "1" * 64, "2" * 64


def test_they_are_asked_for_until_their_time_is_over(store: Store, clock: Clock) -> None:
    store.warmups.ask("support", FIRST, lasts_s=10)
    store.warmups.ask("support", SECOND, lasts_s=30)
    assert [row.digest for row in store.warmups.rows()] == [FIRST, SECOND]
    clock.now += timedelta(seconds=20)
    assert [row.digest for row in store.warmups.rows()] == [SECOND]
    store.warmups.end("support", SECOND)
    assert store.warmups.rows() == []
    assert store.history() == []


def test_asking_again_forgets_what_was_said_before(store: Store, clock: Clock) -> None:
    store.warmups.ask("support", FIRST, lasts_s=10)
    (row,) = store.warmups.rows()
    store.warmups.report("a", FIRST, False, "probes failed")
    assert [(one.server_id, one.ok) for one in store.warmups.reports(FIRST)] == [("a", False)]
    clock.now += timedelta(seconds=1)
    store.warmups.ask("support", FIRST, lasts_s=10)
    assert store.warmups.reports(FIRST) == []
    assert store.warmups.rows() != [row]


def test_the_mark_is_another_one_after_each_event_and_the_same_without_one(store: Store) -> None:
    store.warmups.ask("support", FIRST, lasts_s=10)
    marks = [store.mark()]
    store.observe("a", "support", "production", FIRST, True, "")
    assert store.mark() == marks[0]
    for number in range(3):
        store.add_event(HistoryEvent(0, "", "judged", "anna", "support", reason=str(number)))
        marks.append(store.mark())
    assert len(set(marks)) == 4


def test_what_was_said_of_it_does_not_stay_when_it_is_asked_for_no_longer(store: Store, clock: Clock) -> None:
    store.warmups.ask("support", FIRST, lasts_s=10)
    store.warmups.report("a", FIRST, True, "ready")
    store.warmups.end("support", FIRST)
    store.warmups.report("b", FIRST, True, "ready")
    store.warmups.ask("support", SECOND, lasts_s=10)
    assert store.warmups.reports(FIRST) == []
