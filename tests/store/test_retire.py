"""Which releases may go: never what is live, warm or referenced, and what went cannot come back."""

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budwood.errors import StoreError
from budwood.identity import Digest
from budwood.store import HistoryEvent, Store, open_store
from budwood.store.history import line_of
from budwood.store.removals import Removal

from .conftest import Clock, Maker, put


@pytest.fixture
def line(store: Store, make: Maker) -> list[Digest]:
    """Six releases, each made from the one before and from its own adapter; the first five were live one after the other."""
    found: list[Digest] = []
    for number in range(6):
        adapter = make("adapter", {"w": str(number)})
        found.append(make("release", body={"n": number}, parents=[adapter, *found[-1:]]))
        store.add_release("support", found[-1], who="anna", reason="")
        if number < 5:
            store.move_alias("support", "production", found[-1], who="anna", reason="")
    store.close()
    return found


def delete(store: Store, digest: Digest) -> None:
    store.delete("support", digest, who="ben", reason="not needed")


def test_what_is_live_warm_or_referenced_stays_and_says_why(store: Store, line: list[Digest]) -> None:
    before = store.history()
    for number, words in (
        (5, "is live: support@production points to it"),
        (4, "is warm: support@production would roll back to it"),
        (3, "is referenced: support@4, which stays, was made from it"),
    ):
        with pytest.raises(StoreError) as caught:
            delete(store, line[number - 1])
        assert caught.value.what == f"support@{number} ({line[number - 1][:12]}…) {words}."
    store.observe("gpu-1", "support", "staging", line[1], True, "")
    with pytest.raises(StoreError, match="is warm: server gpu-1 answers from it"):
        delete(store, line[1])
    with pytest.raises(StoreError, match="needs a reason"):
        store.delete("support", line[5], who="ben", reason=" ")
    assert store.history() == before
    store.forget_server("gpu-1")
    for digest in (line[0], line[5]):
        delete(store, digest)
    assert store.verify().ok


def test_a_release_that_another_process_works_with_stays(store: Store, line: list[Digest]) -> None:
    key = store.action("release", 1, {}, [], 0)
    store.record(key, line[0])
    with open_store(store.root) as busy:
        assert busy.done(key) == line[0]
        with pytest.raises(StoreError, match="is in use: a command that is running works with it"):
            delete(store, line[0])
        assert line[0] not in store.collect(True, older_than_s=0, keep_live=0)
    delete(store, line[0])


def test_what_was_deleted_cannot_come_back_and_keeps_its_number(store: Store, line: list[Digest], make: Maker) -> None:
    delete(store, line[0])
    with pytest.raises(StoreError, match="were removed on 2026-09-01 by ben: not needed"):
        store.move_alias("support", "production", line[0], who="anna", reason="")
    with pytest.raises(StoreError, match="were removed"):
        delete(store, line[0])
    assert [row.version for row in store.releases("support")] == [1, 2, 3, 4, 5, 6]
    assert store.add_release("support", make("release", body={"n": 7}), who="anna", reason="") == 7
    (event,) = [event for event in store.history("support") if event.kind == "deleted"]
    assert (event.to, event.who, event.reason, event.detail["version"]) == (line[0], "ben", "not needed", 1)
    assert store.find_release("support").digest == line[4]


def test_its_parts_are_collected_then_and_the_lineage_of_others_stays(store: Store, line: list[Digest], clock: Clock) -> None:
    adapters = [store.manifest(digest).parents[0] for digest in line]
    delete(store, line[0])
    store.close()
    clock.now += timedelta(days=8)
    assert store.collect(True) == [adapters[0]]
    assert store.collect(False) == [adapters[0]]
    assert store.verify().ok
    stone = store.tombstone_of(line[0])
    assert stone is not None
    assert line[0] in store.manifest(line[1]).parents


@pytest.mark.parametrize(("keep", "gone"), [(0, [1, 2, 3, 6]), (1, [1, 2, 6]), (2, [1, 6]), (9, [6])])
def test_a_collection_keeps_so_many_that_were_live_for_each_alias(
    store: Store, line: list[Digest], clock: Clock, keep: int, gone: list[int]
) -> None:
    clock.now += timedelta(days=8)
    adapters = [store.manifest(digest).parents[0] for digest in line]
    wanted = {line[number - 1] for number in gone} | {adapters[number - 1] for number in gone}
    before = store.history()
    assert set(store.collect(True, keep_live=keep)) == wanted
    assert store.history() == before
    assert set(store.collect(False, keep_live=keep, who="ben")) == wanted
    assert store.collect(False, keep_live=keep) == []
    assert {event.to for event in store.history("support") if event.kind == "deleted"} == {line[n - 1] for n in gone}
    assert store.verify().ok


def test_without_being_told_a_collection_lets_no_release_go(store: Store, line: list[Digest], clock: Clock) -> None:
    clock.now += timedelta(days=800)
    assert store.collect(False) == []


def test_a_young_release_stays(store: Store, line: list[Digest]) -> None:
    assert store.collect(False, keep_live=0) == []


def test_a_release_whose_deletion_was_cut_short_cannot_go_live(store: Store, line: list[Digest]) -> None:
    """Whoever finishes the deletion would take it from under the servers."""
    with store._parts.ledger.transaction() as entry:
        detail = Removal({line[5]: None}).as_detail()
        entry.append(HistoryEvent(0, "", "removal_begun", "ben", reason="not needed", detail=detail))
    with pytest.raises(StoreError, match=r"is being removed, since event 12 by ben: not needed"):
        store.move_alias("support", "production", line[5], who="anna", reason="")
    assert any("has not ended" in problem for problem in store.verify().problems)
    store.collect(False)
    assert store.verify().ok
    assert not store.exists(line[5])


def test_a_rollback_goes_one_back_from_what_was_kept(store: Store, line: list[Digest]) -> None:
    store.move_alias("support", "production", line[3], who="anna", reason="", kind="rolled_back")
    assert line_of(store.history(), "support", "production") == line[:4]
    with pytest.raises(StoreError, match="would roll back to it"):
        delete(store, line[2])
    delete(store, line[4])


MOVES = st.lists(st.tuples(st.sampled_from(["promoted", "rolled_back"]), st.sampled_from("abcd")), max_size=12)


@given(MOVES)
def test_the_line_ends_with_what_is_live_and_names_only_what_was(moves: list[tuple[str, str]]) -> None:
    events = [HistoryEvent(n, "", kind, "x", "s", "p", to=Digest(to)) for n, (kind, to) in enumerate(moves)]
    line = line_of(events, "s", "p")
    assert line[-1:] == [Digest(to) for _, to in moves][-1:]
    assert set(line) <= {to for _, to in moves}
    assert all(one != other for one, other in pairwise(line))


def test_a_loose_object_is_no_release(store: Store, clock: Clock) -> None:
    loose = put(store, "release")
    store.close()
    clock.now += timedelta(days=8)
    assert store.collect(False, keep_live=5) == [loose]
