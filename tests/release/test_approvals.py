"""Four eyes: who counts, what an approval is good for, and that a recipe cannot make the rule weaker."""

import sqlite3
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budwood.errors import ReleaseError, StoreError
from budwood.release.approvals import Rule, approve, pending, raise_rule, rule_of, set_rule
from budwood.release.promote import promote, rollback
from budwood.store import HistoryEvent, Store

from .conftest import Releaser


def two(store: Store) -> None:
    set_rule(store, "support", "production", approvals=2, own=False, who="anna", reason="customers read it")


def up(store: Store, ref: str, who: str = "dora", **words: Any) -> str:
    return promote(store, ref, "production", who=who, reason="weekly", **words).digest


def yes(store: Store, ref: str, *people: str) -> None:
    for who in people:
        approve(store, ref, "production", who=who, reason="read it")


def test_an_alias_moves_only_when_enough_people_have_approved(store: Store, release: Releaser) -> None:
    first = release(1)
    two(store)
    yes(store, "support@1", "ben")
    before = store.history()
    with pytest.raises(ReleaseError) as caught:
        up(store, "support@1")
    assert str(caught.value) == (
        f"support@1 ({first.digest[:12]}…) has 1 of 2 approvals (ben); support@production asks for 2 approvals, by others than "
        "who made the release or moves the alias.\n"
        "    Nothing was changed. Let them run `budwood approve support@1`; or go without, with --without-approvals REASON, "
        "which is recorded."
    )
    assert store.history() == before
    assert store.aliases() == []
    yes(store, "support@1", "carla")
    assert up(store, "support@1") == first.digest
    event = store.history()[-1]
    assert event.detail["approvals"] == {"asked": 2, "rule": 2, "events": [3, 4]}
    assert event.override is False
    assert store.verify().ok


def test_one_person_counts_once_however_the_name_is_typed(store: Store, release: Releaser) -> None:
    release(1)
    two(store)
    yes(store, "support@1", "ben", "Ben ", "ＢＥＮ")
    with pytest.raises(ReleaseError, match=r"has 1 of 2 approvals \(ben\)"):
        up(store, "support@1")
    assert sum(event.kind == "approved" for event in store.history()) == 1


def test_whoever_made_it_or_moves_it_does_not_count(store: Store, release: Releaser) -> None:
    release(1)
    two(store)
    with pytest.raises(ReleaseError, match=r"^Anna made support@1 "):
        yes(store, "support@1", "Anna")
    yes(store, "support@1", "ben", "dora")
    with pytest.raises(ReleaseError, match=r"1 of 2 approvals \(ben\); not counted, because they made it or move it: dora"):
        up(store, "support@1", who="dora")
    assert up(store, "support@1", who="anna")


def test_where_the_rule_says_so_they_count(store: Store, release: Releaser) -> None:
    release(1)
    set_rule(store, "support", "production", approvals=2, own=True, who="anna", reason="we are two")
    yes(store, "support@1", "anna", "ben")
    assert up(store, "support@1", who="anna")


def test_an_approval_is_for_one_release_one_alias_and_one_place(store: Store, release: Releaser) -> None:
    first = release(1)
    up(store, "support@1")
    second = release(2, champion=first)
    two(store)
    yes(store, "support@2", "ben", "carla")
    set_rule(store, "support", "staging", approvals=1, own=False, who="anna", reason="")
    with pytest.raises(ReleaseError, match="0 of 1 approvals"):
        promote(store, "support@2", "staging", who="dora", reason="")
    third = release(3, champion=first)
    with pytest.raises(ReleaseError, match="0 of 2 approvals"):
        up(store, "support@3")
    assert up(store, "support@2") == second.digest
    rollback(store, "support", who="dora", reason="too long")
    with pytest.raises(ReleaseError, match="0 of 2 approvals"):
        up(store, "support@2")
    yes(store, "support@3", "ben", "carla")
    assert set(pending(store, "support", "production")) == {3}
    assert up(store, "support@3") == third.digest


def test_going_back_waits_for_nobody(store: Store, release: Releaser) -> None:
    first = release(1)
    up(store, "support@1")
    release(2, champion=first)
    up(store, "support@2")
    two(store)
    assert rollback(store, "support", who="eve", reason="down").digest == first.digest


def test_an_approval_can_be_taken_back(store: Store, release: Releaser) -> None:
    release(1)
    two(store)
    yes(store, "support@1", "ben", "carla")
    found = approve(store, "support@1", "production", who="ben", reason="slept on it", withdraw=True)
    assert found.line() == "1 of 2 approvals (carla)"
    with pytest.raises(ReleaseError, match="ben has not approved"):
        approve(store, "support@1", "production", who="ben", reason="", withdraw=True)
    with pytest.raises(ReleaseError, match="1 of 2"):
        up(store, "support@1")


def test_one_taken_back_at_the_last_moment_stops_the_move(
    store: Store, release: Releaser, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(1)
    two(store)
    yes(store, "support@1", "ben", "carla")
    real = store.move_alias

    def late(*arguments: Any, **keys: Any) -> HistoryEvent:
        approve(store, "support@1", "production", who="ben", reason="stop", withdraw=True)
        return real(*arguments, **keys)

    monkeypatch.setattr(store, "move_alias", late)
    with pytest.raises(ReleaseError, match="1 of 2 approvals"):
        up(store, "support@1", without_approvals=None)
    assert store.aliases() == []


def test_going_without_needs_a_reason_on_record(store: Store, release: Releaser) -> None:
    release(1, "REJECT")
    two(store)
    with pytest.raises(ReleaseError, match="The without-approvals has no reason"):
        up(store, "support@1", without_approvals=" ")
    with pytest.raises(ReleaseError, match="The verdict on support@1"):
        up(store, "support@1", without_approvals="fire")
    with pytest.raises(ReleaseError, match="0 of 2 approvals"):
        up(store, "support@1", override="fire")
    up(store, "support@1", override="known flaw", without_approvals="fire")
    event = store.history()[-1]
    assert (event.override, event.reason) == (True, "known flaw | fire | weekly")


def test_a_recipe_makes_the_rule_stricter_and_never_weaker(store: Store, release: Releaser) -> None:
    release(1)

    def by_recipe(approvals: int, own: bool = False) -> Rule:
        return raise_rule(store, "support", "production", approvals=approvals, own=own, who="anna")

    assert by_recipe(0).approvals == 0
    assert by_recipe(1).approvals == 1
    assert by_recipe(2).approvals == 2
    events = store.history()
    assert by_recipe(0).approvals == by_recipe(2, own=True).approvals == by_recipe(1).approvals == 2
    assert by_recipe(5, own=True).own is False
    assert store.history() == events


def test_a_rule_gets_weaker_only_with_a_reason_on_record(store: Store, release: Releaser) -> None:
    release(1)
    two(store)
    with pytest.raises(ReleaseError, match=r"asks for 2 approvals, by others .*, since event 2; this would make it weaker"):
        set_rule(store, "support", "production", approvals=1, own=False, who="eve", reason="faster")
    assert rule_of(store.history(), "support", "production").approvals == 2
    set_rule(store, "support", "production", approvals=1, own=False, who="eve", reason="", override="ben left")
    event = store.history()[-1]
    assert (event.kind, event.override, event.reason) == ("approvals_set", True, "ben left")


def test_an_approval_that_was_written_into_the_catalog_is_noticed(store: Store, release: Releaser) -> None:
    release(1)
    two(store)
    with sqlite3.connect(store.root / "catalog.sqlite") as connection:
        connection.execute("""UPDATE history SET detail = '{"approvals":0,"own":false}' WHERE kind = 'approvals_set'""")
    connection.close()
    with pytest.raises(StoreError, match="The history was altered"):
        up(store, "support@1")
    assert store.aliases() == []


RULES = st.builds(Rule, st.integers(0, 3), st.booleans())


@given(RULES, RULES, st.sets(st.sampled_from(["maker", "mover", "x", "y", "z"])))
def test_a_rule_that_covers_another_lets_nothing_more_through(one: Rule, other: Rule, people: set[str]) -> None:
    def passes(rule: Rule) -> bool:
        return len(people if rule.own else people - {"maker", "mover"}) >= rule.approvals

    if one.covers(other) and passes(one):
        assert passes(other)
