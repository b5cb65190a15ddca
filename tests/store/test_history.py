"""The history: what was live when, and every way of tampering with it is noticed and named."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budwood.errors import StoreError
from budwood.identity import Digest
from budwood.store import HistoryEvent, Store, open_store
from budwood.store.history import GENESIS, REPAIRED, Head, chain_faults, next_event, sort_accepted, state_of

from .conftest import Clock, Maker, edit


@pytest.fixture
def moved(store: Store, make: Maker) -> list[Digest]:
    """Two releases, promoted one after the other: events 1 to 4."""
    releases = [make("release", body={"n": number}) for number in range(2)]
    for digest in releases:
        store.add_release("support", digest, who="anna", reason="made")
    for digest in releases:
        store.move_alias("support", "production", digest, who="anna", reason="better")
    return releases


def test_each_event_names_its_predecessor(store: Store, moved: list[Digest]) -> None:
    events = store.history()
    assert [event.seq for event in events] == [1, 2, 3, 4]
    assert [event.kind for event in events] == ["released", "released", "promoted", "promoted"]
    assert [event.previous for event in events] == [GENESIS, *(event.digest for event in events[:-1])]
    assert all(event.compute_digest() == event.digest for event in events)
    assert (events[3].from_, events[3].to) == (moved[0], moved[1])
    assert store.history("other") == []
    assert store.verify().ok


@pytest.mark.parametrize(
    ("statements", "fault"),
    [
        (["UPDATE history SET who = 'ben' WHERE seq = 3"], "history: event 3 (promoted) was edited"),
        (["UPDATE history SET at = '2026-08-01T00:00:00.000000+00:00' WHERE seq = 4"], "event 4 (promoted) was edited"),
        (["UPDATE history SET detail = 'no json' WHERE seq = 1"], "history: event 1 cannot be read: detail is 'no json'"),
        (["UPDATE history SET override = true WHERE seq = 3"], "history: event 3 (promoted) was edited"),
        (["DELETE FROM history WHERE seq = 2"], "history: event 2 is missing before event 3"),
        (
            [
                "UPDATE history SET seq = 99 WHERE seq = 2",
                "UPDATE history SET seq = 2 WHERE seq = 3",
                "UPDATE history SET seq = 3 WHERE seq = 99",
            ],
            "history: event 2 does not follow event 1",
        ),
        (["DELETE FROM history WHERE seq = 4"], "history: the head row says event 4"),
        (
            [
                "DELETE FROM history WHERE seq = 4",
                "UPDATE history_head SET seq = 3, digest = (SELECT digest FROM history WHERE seq = 3)",
            ],
            "history: history.head knows event 4",
        ),
        (
            ["DELETE FROM history", "UPDATE history_head SET seq = 0, digest = '" + "0" * 64 + "'"],
            "history.head knows event 4",
        ),
        (["DELETE FROM history_head"], "history: the head row is gone"),
        (
            ["UPDATE aliases SET digest = (SELECT digest FROM releases WHERE version = 1)"],
            "alias support@production: points to",
        ),
        (["DELETE FROM aliases"], "alias support@production: points to nothing, the history says"),
        (["DELETE FROM releases WHERE version = 2"], "release support@2: is gone from the catalog"),
        (["UPDATE releases SET version = 7 WHERE version = 1"], "release support@7: no event made it"),
    ],
)
def test_bad_56_tampering_is_found_and_named(store: Store, moved: list[Digest], statements: list[str], fault: str) -> None:
    edit(store, *statements)
    problems = store.verify().problems
    assert any(fault in problem for problem in problems), problems


CUT = "DELETE FROM history WHERE seq = 4"
HEAD_CUT = "UPDATE history_head SET seq = 3, digest = (SELECT digest FROM history WHERE seq = 3)"


@pytest.mark.parametrize("statements", [[CUT], [CUT, HEAD_CUT], ["UPDATE history SET who = 'ben' WHERE seq = 4"]])
def test_bad_56_nothing_is_added_to_a_tampered_history_until_it_is_accepted(
    store: Store, moved: list[Digest], statements: list[str]
) -> None:
    edit(store, *statements)
    with pytest.raises(StoreError, match="The history was altered"):
        store.move_alias("support", "production", moved[0], who="anna", reason="")
    event = store.accept_history(who="carla", reason="restored from last night")
    assert event.kind == "repaired"
    assert event.detail["faults"]
    store.move_alias("support", "production", moved[0], who="anna", reason="")
    assert store.history()[-1].kind in {"promoted", "repaired"}


@pytest.mark.parametrize("again", [False, True])
def test_an_event_in_the_middle_is_looked_at_before_every_write(store: Store, moved: list[Digest], again: bool) -> None:
    """Also by a process that has checked it before, and that wrote what came after."""
    edit(store, "UPDATE history SET who = 'eve' WHERE seq = 2")
    with open_store(store.root) if again else nullcontext(store) as writer:
        with pytest.raises(StoreError, match=r"The history was altered: event 2 \(released\) was edited"):
            writer.move_alias("support", "production", moved[0], who="anna", reason="")
        assert len(writer.history()) == 4
    edit(store, "UPDATE history SET who = 'anna' WHERE seq = 2")
    assert store.move_alias("support", "production", moved[0], who="anna", reason="").seq == 5


def test_what_another_process_wrote_is_checked_too(store: Store, moved: list[Digest]) -> None:
    with open_store(store.root) as other:
        other.move_alias("support", "production", moved[0], who="ben", reason="")
    edit(store, "UPDATE history SET who = 'eve' WHERE seq = 5")
    with pytest.raises(StoreError, match="event 5"):
        store.move_alias("support", "production", moved[1], who="anna", reason="")


def test_bad_57_an_end_that_was_noted_elsewhere_shows_a_past_that_was_put_back(store: Store, moved: list[Digest]) -> None:
    """An older catalog with its own head file is whole in itself."""
    old, early = store.head(), (store.root / "history.head").read_bytes()
    late = store.move_alias("support", "production", moved[0], who="anna", reason="")
    new = store.head()
    assert (new.seq, new.digest) == (late.seq, late.digest)
    assert store.verify(noted=old).ok
    assert store.verify(noted=new).ok
    edit(
        store,
        "DELETE FROM history WHERE seq = 5",
        f"UPDATE history_head SET seq = 4, digest = '{old.digest}'",
        f"UPDATE aliases SET seq = 4, digest = '{moved[1]}'",
    )
    (store.root / "history.head").write_bytes(early)
    assert store.verify().ok
    (problem,) = store.verify(noted=new).problems
    assert problem.startswith(
        f"history: --head names event 5 ({new.digest[:12]}…), which is not in the catalog: the end was cut"
    )


def test_a_removed_or_garbled_head_file_is_noticed(store: Store, moved: list[Digest]) -> None:
    (store.root / "history.head").unlink()
    assert store.verify().problems == ("history: the file history.head is gone",)
    for garbled in (None, "{", '{"seq": 9, "digest": "00"}'):
        if garbled is not None:
            (store.root / "history.head").write_text(garbled)
        with pytest.raises(StoreError, match="The history was altered"):
            store.move_alias("support", "production", moved[0], who="anna", reason="")


def test_a_head_file_that_lags_behind_is_no_fault_and_catches_up(store: Store, moved: list[Digest]) -> None:
    """It is written just after the move: a crash between the two must not look like tampering."""
    event = store.history()[1]
    (store.root / "history.head").write_text(json.dumps({"seq": event.seq, "digest": event.digest}))
    assert store.verify().ok
    store.move_alias("support", "production", moved[0], who="anna", reason="")
    assert json.loads((store.root / "history.head").read_text())["seq"] == 5


def test_bad_60_numbers_decide_when_the_clock_goes_back(store: Store, clock: Clock, moved: list[Digest]) -> None:
    clock.now -= timedelta(hours=2)
    back = store.move_alias("support", "production", moved[0], who="anna", reason="")
    assert back.seq == 5
    assert back.detail["clock_went_back_s"] == pytest.approx(7199, abs=2)
    assert store.live_at("support", "production", datetime(2026, 9, 2, tzinfo=UTC)) == moved[0]
    assert store.verify().ok


def test_what_was_live_at_a_moment(store: Store, clock: Clock, moved: list[Digest]) -> None:
    times = [datetime.fromisoformat(event.at) for event in store.history()]
    assert store.live_at("support", "production", times[2] - timedelta(seconds=1)) is None
    assert store.live_at("support", "production", times[2]) == moved[0]
    assert store.live_at("support", "production", times[3]) == moved[1]
    assert store.live_at("support", "staging", times[3]) is None
    with pytest.raises(StoreError, match="has no time zone"):
        store.live_at("support", "production", times[2].replace(tzinfo=None))


def test_what_servers_acknowledged_at_a_moment(store: Store, clock: Clock, moved: list[Digest]) -> None:
    store.observe("a", "support", "production", moved[0], True, "")
    store.observe("b", "support", "production", moved[0], True, "")
    first = clock.now
    store.observe("a", "support", "production", moved[1], True, "")
    store.observe("b", "support", "production", moved[1], False, "probes failed")
    second = clock.now
    store.forget_server("a")
    assert store.served_at("support", "production", first) == {"a": moved[0], "b": moved[0]}
    assert store.served_at("support", "production", second) == {"a": moved[1], "b": moved[0]}
    store.observe("b", "support", "production", moved[0], False, "out of memory")
    assert store.served_at("support", "production", clock.now) == {}
    assert store.served_at("support", "production", clock.now) == {}
    assert [(row.server_id, row.ok, row.detail) for row in store.observed("support", "production")] == [
        ("b", False, "out of memory")
    ]


def test_a_server_that_was_killed_answered_nothing_from_then_on(store: Store, clock: Clock, moved: list[Digest]) -> None:
    for server in ("killed", "alive"):
        store.observe(server, "support", "production", moved[0], True, "")
    last = clock.now
    clock.now += timedelta(minutes=5)
    store.server_beat("alive")
    both = {"killed": moved[0], "alive": moved[0]}
    assert store.served_at("support", "production", last + timedelta(seconds=9)) == both
    assert store.served_at("support", "production", last + timedelta(seconds=11)) == {"alive": moved[0]}
    assert store.served_at("support", "production", clock.now) == {"alive": moved[0]}


def test_a_server_that_is_silent_for_a_day_is_off_the_records(store: Store, clock: Clock) -> None:
    """Also where no other server is there that could take it off."""
    store.server_beat("last")
    clock.now += timedelta(hours=23)
    assert [(server.server_id, server.alive) for server in store.servers()] == [("last", False)]
    clock.now += timedelta(hours=2)
    assert store.servers() == []


def test_since_stays_while_a_server_repeats_itself(store: Store, moved: list[Digest]) -> None:
    store.observe("a", "support", "production", moved[0], True, "")
    first = store.observed()[0]
    store.observe("a", "support", "production", moved[0], True, "")
    second = store.observed()[0]
    assert second.since == first.since
    assert second.seen > first.seen


def test_other_events_can_be_added_but_moves_cannot_be_faked(store: Store) -> None:
    event = store.add_event(HistoryEvent(0, "", "judged", "anna", "support", detail={"suite": "d11c"}))
    assert store.history() == [event]
    with pytest.raises(StoreError, match="written by the move itself"):
        store.add_event(HistoryEvent(0, "", "promoted", "anna", "support", "production"))


def test_an_event_survives_the_way_through_the_table(store: Store) -> None:
    event = HistoryEvent(0, "", "judged", "anna", reason="naïve 🌱", detail={"a": [1, 2.5, None, {"b": "ü"}]})
    written = store.add_event(event)
    with open_store(store.root) as other:
        assert other.history() == [written]
    assert written.as_dict()["from"] is None


def test_mending_the_next_link_after_an_edit_shows_in_the_next_event() -> None:
    """A forger who hashes his event again has to change every later one, up to the head that is kept elsewhere."""
    events = chain_of([("released", "anna"), ("judged", "anna"), ("judged", "ben")])
    forged = replace(events[0], who="eve")
    forged = replace(forged, digest=forged.compute_digest())
    head = Head(3, events[2].digest)
    found = chain_faults([forged, replace(events[1], previous=forged.digest), events[2]], head, head)
    assert found == ["history: event 2 (judged) was edited"]


def test_a_fault_is_accepted_only_by_an_event_that_says_what_it_looked_at() -> None:
    first = chain_of([("judged", "anna")])[0]
    edited = replace(first, who="eve")
    head, now, fault = Head(1, first.digest), datetime(2026, 9, 2, tzinfo=UTC), "history: event 1 (judged) was edited"

    def accepted_by(detail: dict[str, object]) -> tuple[list[str], list[str]]:
        repair = next_event(head, None, now, HistoryEvent(0, "", REPAIRED, "carla", reason="known", detail=detail))
        return sort_accepted([edited, repair], [fault])

    assert accepted_by({"faults": [fault]}) == ([fault], [])
    assert accepted_by({"faults": [fault], "state": state_of([first])}) == ([fault], [])
    whole = accepted_by({"faults": [fault], "state": state_of([edited])})
    assert whole == ([], [f"{fault} (accepted by carla in event 2: known)"])


EVENTS = st.lists(st.tuples(st.sampled_from(["judged", "released"]), st.text(max_size=5)), min_size=2, max_size=6)


def chain_of(items: list[tuple[str, str]]) -> list[HistoryEvent]:
    head, events = Head(), []
    for number, (kind, who) in enumerate(items):
        now = datetime(2026, 9, 1, tzinfo=UTC) + timedelta(seconds=number)
        events.append(next_event(head, None, now, HistoryEvent(0, "", kind, who)))
        head = Head(events[-1].seq, events[-1].digest)
    return events


MUTATIONS: list[Callable[[list[HistoryEvent], int, int], list[HistoryEvent]]] = [
    lambda events, i, j: events[:i] + events[i + 1 :],
    lambda events, i, j: events[: i + 1] + events[i:],
    lambda events, i, j: [events[j] if k == i else events[i] if k == j else event for k, event in enumerate(events)],
    lambda events, i, j: events[:i],
]


@settings(deadline=None)
@given(items=EVENTS, data=st.data())
def test_a_chain_is_whole_as_written_and_broken_by_any_change(items: list[tuple[str, str]], data: st.DataObject) -> None:
    events = chain_of(items)
    head = Head(events[-1].seq, events[-1].digest)
    assert chain_faults(events, head, head) == []
    i = data.draw(st.integers(0, len(events) - 1))
    j = data.draw(st.integers(0, len(events) - 1).filter(lambda other: other != i))
    changed = data.draw(st.sampled_from(MUTATIONS))(events, i, j)
    assert chain_faults(changed, head, head) != []
