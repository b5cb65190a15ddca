"""Promotion and rollback: who may move an alias, where to, and who has followed."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from budwood.errors import ReleaseError, StoreError
from budwood.identity import Digest, digest_json
from budwood.release.make import Decoding
from budwood.release.promote import ServerState, followed, promote, rollback, wait_for_servers, warm_up
from budwood.release.status import body_or_reason, status
from budwood.store import HistoryEvent, ReleaseRow, Store, open_store
from budwood.store.warmups import Warmups

from .conftest import Made, Releaser


def up(store: Store, ref: str, *, expect: str | None = None, override: str | None = None) -> str:
    return promote(store, ref, "production", expect=expect, who="anna", reason="weekly", override=override).digest


def test_a_release_that_passed_its_gate_goes_live(store: Store, release: Releaser) -> None:
    first = release(1)
    moved = promote(store, "support@1", "production", who="anna", reason="first", expect="none")
    assert (moved.digest, moved.version, moved.before, moved.servers) == (first.digest, 1, None, ())
    event = store.history("support")[-1]
    assert (event.kind, event.to, event.override, event.seq) == ("promoted", first.digest, False, moved.seq)
    assert event.verdict is not None
    assert moved.as_dict()["followed"] is None, "nobody looked"
    assert moved.followed


@pytest.mark.parametrize("decision", ["REJECT", "INCONCLUSIVE"])
def test_another_verdict_needs_an_override_with_a_reason_on_record(store: Store, release: Releaser, decision: str) -> None:
    release(1, decision)
    with pytest.raises(ReleaseError) as caught:
        up(store, "support@1")
    assert f"The verdict on support@1 ({store.releases()[0].digest[:12]}…) is {decision}, not PROMOTE." in caught.value.what
    assert "quality against the baseline" in caught.value.what
    with pytest.raises(ReleaseError, match="The override has no reason"):
        up(store, "support@1", override=" ")
    assert store.aliases() == []
    up(store, "support@1", override="demo tonight")
    event = store.history("support")[-1]
    assert (event.override, event.reason) == (True, "demo tonight | weekly")
    assert status(store).aliases[0].line().startswith(f"support@production → version 1 ({event.to[:12] if event.to else ''}")


def test_an_override_that_was_not_needed_is_none(store: Store, release: Releaser) -> None:
    release(1)
    up(store, "support@1", override="just in case")
    assert store.history()[-1].override is False


def test_a_release_that_was_never_judged_needs_an_override(store: Store, release: Releaser) -> None:
    release(1, None)
    with pytest.raises(ReleaseError, match="was never judged by a gate"):
        up(store, "support@1")


def test_a_verdict_against_a_champion_that_is_not_live_any_more_is_stale(store: Store, release: Releaser) -> None:
    first, second = release(1), release(2)
    up(store, "support@1")
    with pytest.raises(ReleaseError) as caught:
        up(store, "support@2")
    assert str(caught.value) == (
        f"The verdict on support@2 ({second.digest[:12]}…) was given with nothing live, but support@production is at "
        f"release {first.digest[:12]}… by now.\n"
        "    Nothing was changed. Let the gate judge again against what is live: `budwood release RECIPE`; "
        "or repeat with --override REASON."
    )
    third = release(3, champion=first)
    assert up(store, "support@3") == third.digest
    assert promote(store, "support@2", "staging", who="anna", reason="look").before is None


def test_an_alias_that_is_live_needs_a_verdict_against_what_is_live_there(store: Store, release: Releaser) -> None:
    """Whatever it is called: the recipe's alias is only the one that the gate looked at."""
    first = release(1)
    up(store, "support@1")
    second, third = release(2, champion=first), release(3, champion=first)
    assert promote(store, "support@2", "staging", who="anna", reason="new there").digest == second.digest
    with pytest.raises(ReleaseError) as caught:
        promote(store, "support@3", "staging", who="anna", reason="look")
    assert str(caught.value) == (
        f"The verdict on support@3 ({third.digest[:12]}…) was given against {first.adapter[:12]}…, but support@staging is at "
        f"release {second.digest[:12]}… by now.\n"
        "    Nothing was changed. Let the gate judge again against what is live: `budwood release RECIPE` with "
        '[release] alias = "staging"; or repeat with --override REASON.'
    )
    promote(store, "support@1", "staging", who="anna", reason="back", override="to compare")
    assert promote(store, "support@3", "staging", who="anna", reason="look").digest == third.digest


def test_a_verdict_against_a_champion_is_no_verdict_on_an_alias_that_is_gone(store: Store, release: Releaser) -> None:
    first = release(1)
    release(2, champion=first)
    with pytest.raises(ReleaseError, match=f"given against {first.adapter[:12]}…, but support@production is not there"):
        up(store, "support@2")


def plain(release: Releaser, **changes: Any) -> Made:
    """A release of the base alone."""
    return release(9, None, result=None, run=None, report=None, **changes)


def test_a_live_plain_base_is_what_every_verdict_was_given_against(store: Store, release: Releaser) -> None:
    plain(release)
    up(store, "support@1", override="to have something")
    second = release(2)
    assert up(store, "support@2") == second.digest
    assert store.history()[-1].override is False


def test_a_live_plain_base_in_another_form_is_another_one(store: Store, release: Releaser) -> None:
    plain(release, quantization="nf4")
    up(store, "support@1", override="to have something")
    release(2)
    with pytest.raises(ReleaseError, match="was given with nothing live, but support@production is at release"):
        up(store, "support@2")


def test_a_damaged_live_release_can_be_replaced_with_an_override(store: Store, release: Releaser) -> None:
    first = release(1)
    up(store, "support@1")
    (store.folder(first.digest) / "manifest.json").unlink()
    second = release(2, champion=None)
    with pytest.raises(ReleaseError, match="cannot be held against support@production: The object"):
        up(store, "support@2")
    assert up(store, "support@2", override="the disk lost it") == second.digest


def test_another_release_of_the_live_adapter_may_follow_it(store: Store, release: Releaser) -> None:
    release(1)
    up(store, "support@1")
    other = release(1, decoding=Decoding(0.5, 64, (2,)))
    assert up(store, "support@2") == other.digest


def test_promoting_what_is_live_changes_nothing(store: Store, release: Releaser) -> None:
    release(1)
    up(store, "support@1")
    before = store.history()
    up(store, "support@1")
    assert store.history() == before


def test_an_expectation_that_does_not_hold_is_refused(store: Store, release: Releaser) -> None:
    first = release(1)
    up(store, "support@1")
    release(2, champion=first)
    for expect in ("none", "support@2", "2"):
        with pytest.raises(StoreError, match="as --expect says"):
            up(store, "support@2", expect=expect)
    up(store, "support@2", expect=first.digest[:8])
    assert store.find_release("support").version == 2


def test_the_verdict_is_checked_against_what_is_expected_and_nothing_else(
    store: Store, release: Releaser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody moves the alias to just where we expect it, between our look and our move: that is not what we looked at."""
    first = release(1)
    up(store, "support@1")
    second, third = release(2, champion=first), release(3, champion=first)
    real = store.move_alias

    def late(*arguments: Any, **keys: Any) -> HistoryEvent:
        monkeypatch.undo()
        up(store, "support@2")
        return real(*arguments, **keys)

    monkeypatch.setattr(store, "move_alias", late)
    with pytest.raises(StoreError, match="as --expect says"):
        up(store, "support@3", expect=second.digest)
    assert store.find_release("support").digest == first.digest
    with pytest.raises(StoreError, match="as --expect says"):
        up(store, "support@3", expect=first.digest)
    assert store.find_release("support").digest == second.digest
    assert third.version == 3


def test_a_release_without_its_adapter_cannot_go_live(store: Store, release: Releaser) -> None:
    made = release(1)
    store.tombstone(made.adapter, who="anna", reason="it remembered a customer")
    with pytest.raises(StoreError, match="it remembered a customer"):
        up(store, "support@1")


def three(store: Store, release: Releaser) -> list[str]:
    first = release(1)
    up(store, "support@1")
    second = release(2, champion=first)
    up(store, "support@2")
    third = release(3, champion=second)
    up(store, "support@3")
    return [first.digest, second.digest, third.digest]


def test_rolling_back_goes_one_back_each_time_and_never_forward(store: Store, release: Releaser) -> None:
    first, second, third = three(store, release)
    moved = rollback(store, "support", "production", who="ben", reason="too long")
    assert (moved.digest, moved.before) == (second, third)
    assert rollback(store, "support", "production", who="ben", reason="still").digest == first
    before = store.history()
    with pytest.raises(ReleaseError, match="there is nothing to roll back to"):
        rollback(store, "support", "production", who="ben", reason="again")
    assert store.history() == before
    assert [event.kind for event in before[-2:]] == ["rolled_back", "rolled_back"]
    assert up(store, "support@2", override="fixed upstream") == second
    assert rollback(store, "support", "production", who="ben", reason="no").digest == first


def test_rolling_back_to_any_release_that_was_live(store: Store, release: Releaser) -> None:
    first, _, _ = three(store, release)
    release(4, "REJECT")
    with pytest.raises(ReleaseError, match="was never live as support@production, so this is no rollback"):
        rollback(store, "support", "production", to="4", who="ben", reason="x")
    assert rollback(store, "support", "production", to="support@1", who="ben", reason="x").digest == first


def test_bad_62_rolling_back_where_nothing_is_live_is_refused(store: Store, release: Releaser) -> None:
    release(1)
    with pytest.raises(ReleaseError, match='support has no alias "production"'):
        rollback(store, "support", "production", who="ben", reason="x")


def test_rolling_back_an_unknown_name_names_the_nearest(store: Store, release: Releaser) -> None:
    release(1)
    with pytest.raises(StoreError, match='unknown release name "suport"'):
        rollback(store, "suport", "production", who="ben", reason="x")


def test_rolling_back_while_somebody_promotes_changes_nothing(
    store: Store, release: Releaser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the alias is and what was before come from one look; a move after it is found by the swap."""
    first, second, third = three(store, release)
    rollback(store, "support", "production", who="ben", reason="back to 2")
    real = store.history

    def early(name: str | None = None, *, kinds: Sequence[str] = ()) -> list[HistoryEvent]:
        found = real(name, kinds=kinds)
        monkeypatch.undo()
        up(store, "support@3")
        return found

    monkeypatch.setattr(store, "history", early)
    with pytest.raises(StoreError, match=f"is at release {third[:12]}…, not at {second[:12]}… as --expect says"):
        rollback(store, "support", "production", who="carla", reason="too late")
    assert store.find_release("support").digest == third
    assert first != second


def test_bad_62_rolling_back_to_what_was_removed_is_refused_without_a_fallback(store: Store, release: Releaser) -> None:
    _, second, third = three(store, release)
    adapter = store.manifest(second).body["result"]["digest"]
    store.tombstone(adapter, who="anna", reason="asked for")
    with pytest.raises(StoreError, match="asked for"):
        rollback(store, "support", "production", who="ben", reason="x")
    assert store.find_release("support").digest == third


def test_bad_62_rolling_back_to_what_was_deleted_is_refused_without_a_fallback(store: Store, release: Releaser) -> None:
    first, second, third = three(store, release)
    fourth = release(4, parent=third)
    up(store, "support@4", override="look")
    store.delete("support", Digest(first), who="ben", reason="trained on the wrong export")
    for _ in range(2):
        rollback(store, "support", "production", who="ben", reason="back")
    assert store.find_release("support").digest == second
    with pytest.raises(ReleaseError) as caught:
        rollback(store, "support", "production", who="ben", reason="further")
    assert str(caught.value) == (
        f"support@1 ({first[:12]}…) cannot come back: it was deleted on 2026-09-01 by ben: trained on the wrong export\n"
        f"    Nothing was changed, support@production stays at {second[:12]}…. Choose another that was live: "
        "`budwood rollback support --to NUMBER`; `budwood history support` lists them."
    )
    assert store.find_release("support").digest == second
    assert rollback(store, "support", to="4", who="ben", reason="then that").digest == fourth.digest


class World:
    """Time that passes only by sleeping, and servers that act at a given second."""

    def __init__(self, acts: dict[int, list[tuple[str, str, bool, str]]], store: Store) -> None:
        self.time, self.acts, self.store = 0.0, acts, store

    def sleep(self, seconds: float) -> None:
        before = int(self.time)
        self.time += max(seconds, 0.5)
        for second in range(before + 1, int(self.time) + 1):
            for server, digest, ok, detail in self.acts.pop(second, []):
                self.store.observe(server, "support", "production", digest, ok, detail)


def test_waiting_ends_when_every_server_has_followed_or_refused(store: Store, release: Releaser) -> None:
    first, second, _ = three(store, release)
    for server in ("a", "b"):
        store.observe(server, "support", "production", first, True, "")
    target = store.find_release("support@2").digest
    world = World({3: [("a", second, True, "")], 5: [("b", second, False, "probe 2 differs")]}, store)
    states = wait_for_servers(store, "support", "production", target, wait_s=30, clock=lambda: world.time, sleep=world.sleep)
    assert [(state.server_id, state.state) for state in states] == [("a", "follows"), ("b", "failed")]
    assert str(states[1]) == "server b: refused the release: probe 2 differs"
    assert world.time == 5


def test_waiting_ends_with_the_time_and_names_who_lags(store: Store, release: Releaser) -> None:
    first, _, third = three(store, release)
    store.observe("a", "support", "production", first, True, "loading")
    world = World({}, store)
    target = store.find_release("support@3").digest
    assert target == third
    states = wait_for_servers(store, "support", "production", target, wait_s=4, clock=lambda: world.time, sleep=world.sleep)
    assert states[0].state == "waiting"
    assert f"still at {first[:12]}…" in states[0].detail
    assert "loading" in states[0].detail
    assert world.time == 4


def test_without_servers_there_is_nothing_to_wait_for(store: Store, release: Releaser) -> None:
    release(1)
    assert promote(store, "support@1", who="anna", reason="", wait_s=5).servers == ()


def test_a_server_that_serves_nothing_yet_is_waited_for(store: Store, release: Releaser) -> None:
    target = release(1).digest
    store.server_beat("a")
    world = World({2: [("a", target, True, "probes passed")]}, store)
    states = wait_for_servers(store, "support", "production", target, wait_s=30, clock=lambda: world.time, sleep=world.sleep)
    assert [(state.server_id, state.state) for state in states] == [("a", "follows")]
    assert world.time == 2
    store.server_beat("b")
    states = wait_for_servers(store, "support", "production", target, wait_s=3, clock=lambda: world.time, sleep=world.sleep)
    assert str(states[1]) == "server b: has not reported yet"
    assert world.time == 5


class Dated:
    """A store and two clocks: that of the catalog, and the waiter's own, which passes by sleeping. Servers beat at times."""

    def __init__(self, folder: Path) -> None:
        self.wall = datetime(2026, 3, 3, 14, 0, tzinfo=UTC)
        self.own = 0.0
        self.beats: list[tuple[float, str]] = []
        self.store = open_store(folder / "store", clock=lambda: self.wall)
        self.digest = digest_json("another release")

    def sleep(self, seconds: float) -> None:
        self.own += max(seconds, 0.5)
        self.wall += timedelta(seconds=max(seconds, 0.5))
        for beat in [beat for beat in self.beats if beat[0] <= self.own]:
            self.beats.remove(beat)
            self.store.server_beat(beat[1])

    def wait(self, wait_s: float) -> tuple[ServerState, ...]:
        return wait_for_servers(
            self.store, "support", "production", self.digest, wait_s=wait_s, clock=self.tick, sleep=self.sleep
        )

    def tick(self) -> float:
        return self.own


@pytest.fixture
def dated(tmp_path: Path) -> Iterator[Dated]:
    world = Dated(tmp_path)
    with world.store:
        yield world


def test_a_server_that_died_is_given_up_named_and_counts_as_not_following(dated: Dated) -> None:
    store = dated.store
    for server in ("dead", "alive"):
        store.observe(server, "support", "production", dated.digest, True, "")
    store.server_beat("dead without a word")
    dated.wall += timedelta(seconds=11)
    dated.beats = [(number * 2.0, "alive") for number in range(20)]
    states = dated.wait(60)
    assert dated.own == 10.0
    assert [(state.server_id, state.state) for state in states] == [
        ("alive", "follows"),
        ("dead", "lost"),
        ("dead without a word", "lost"),
    ]
    assert states[1].detail == (
        f"not heard of since 2026-03-03T14:00:00, when it was at {dated.digest[:12]}…; it counts as not following until it is "
        "heard of again, or for a day of silence"
    )
    assert "and before that it reported nothing; it counts" in states[2].detail
    assert not followed(states)
    dated.wall += timedelta(days=2)
    store.server_beat("alive")
    assert [server.server_id for server in store.servers()] == ["alive"]
    assert store.served_at("support", "production", dated.wall) == {"alive": dated.digest}


def test_a_silent_server_is_waited_for_while_there_is_hope(dated: Dated) -> None:
    dated.store.observe("a", "support", "production", dated.digest, True, "")
    dated.wall += timedelta(minutes=1)
    (state,) = dated.wait(5)
    assert (state.state, dated.own) == ("waiting", 5.0)
    assert state.detail == f"not heard of since 2026-03-03T14:00:00, when it was at {dated.digest[:12]}…"
    dated.beats = [(8.0, "a")]
    assert [state.state for state in dated.wait(30)] == ["follows"]
    assert dated.own == 8.0


def test_a_server_whose_clock_is_late_is_heard_of_all_the_same(dated: Dated) -> None:
    """What it writes is an hour old from the first; that it changes is what counts."""
    dated.store.observe("a", "support", "production", digest_json("older"), True, "")
    slow = open_store(dated.store.root, clock=lambda: dated.wall - timedelta(hours=1))

    def sleep(seconds: float) -> None:
        dated.own += 0.5
        dated.wall += timedelta(seconds=0.5)
        if dated.own % 2 == 0:
            slow.server_beat("a")
        if dated.own == 21:
            slow.observe("a", "support", "production", dated.digest, True, "probes passed")

    with slow:
        slow.server_beat("a")
        states = wait_for_servers(
            dated.store, "support", "production", dated.digest, wait_s=60, clock=lambda: dated.own, sleep=sleep
        )
    assert [(state.state, dated.own) for state in states] == [("follows", 21.0)]


def test_a_dead_server_whose_clock_was_early_is_given_up_as_well(dated: Dated) -> None:
    with open_store(dated.store.root, clock=lambda: dated.wall + timedelta(hours=1)) as early:
        early.observe("a", "support", "production", digest_json("older"), True, "")
    assert dated.store.servers()[0].alive
    assert [(state.state, dated.own) for state in dated.wait(60)] == [("lost", 10.0)]


def test_a_promotion_that_was_waited_for_says_whether_it_was_followed(
    store: Store, release: Releaser, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def warm_up(store: Store, row: ReleaseRow, *, wait_s: float) -> None:
        store.warmups.ask(row.name, row.digest, lasts_s=1e6)
        asked.append(row.version)

    monkeypatch.setattr("budwood.release.promote.warm_up", warm_up)
    target = release(1).digest
    store.observe("a", "support", "production", target, True, "")
    moved = promote(store, "support@1", who="anna", reason="", wait_s=60)
    assert (moved.followed, moved.as_dict()["followed"]) == (True, True)
    second = release(2, decoding=Decoding(0.5, 64, (2,)))
    store.observe("a", "support", "production", second.digest, False, "probe 2 differs")
    moved = promote(store, "support@2", who="anna", reason="", override="look", wait_s=60)
    assert (moved.followed, moved.as_dict()["followed"]) == (False, False)
    assert asked == [1, 2]
    assert store.warmups.rows() == []


def test_status_sets_desired_beside_observed(store: Store, release: Releaser) -> None:
    first, _, third = three(store, release)
    store.observe("a", "support", "production", third, True, "")
    store.observe("b", "support", "production", first, True, "")
    found = status(store, "support", events=2)
    row = found.aliases[0]
    assert (row.version, row.verdict, row.who, row.settled) == (3, "PROMOTE", "anna", False)
    assert [server.state for server in row.servers] == ["follows", "waiting"]
    assert row.line().endswith("by anna; 1 of 2 servers follow")
    assert [event.kind for event in found.events] == ["released", "promoted"]
    assert found.as_dict()["aliases"][0]["settled"] is False
    with pytest.raises(StoreError, match='unknown release name "suport"'):
        status(store, "suport")


def test_status_is_read_while_an_alias_moves(store: Store, release: Releaser, monkeypatch: pytest.MonkeyPatch) -> None:
    """A move between its two looks must not be one that the second does not know."""
    first = release(1)
    up(store, "support@1")
    second = release(2, champion=first)
    for name in ("history", "aliases"):
        real = getattr(store, name)

        def early(*arguments: Any, real: Any = real) -> Any:
            found = real(*arguments)
            monkeypatch.undo()
            up(store, "support@2")
            return found

        monkeypatch.setattr(store, name, early)
        assert status(store, "support").aliases[0].version in {1, 2}
        assert store.find_release("support").digest == second.digest


def test_status_shows_a_damaged_release_beside_the_others(store: Store, release: Releaser) -> None:
    first = release(1)
    up(store, "support@1")
    promote(store, "support@1", "staging", who="anna", reason="")
    (store.folder(first.digest) / "manifest.json").unlink()
    assert [row.verdict for row in status(store).aliases] == ["unknown", "unknown"]
    body, gone = body_or_reason(store, first.digest)
    assert body is None
    assert gone == f"damaged: The object {first.digest[:12]}… has no manifest.json."


def test_status_says_when_an_alias_names_no_event(store: Store, release: Releaser) -> None:
    release(1)
    up(store, "support@1")
    with sqlite3.connect(store.root / "catalog.sqlite") as connection:
        connection.execute("UPDATE aliases SET seq = 77")
    connection.close()
    with pytest.raises(StoreError, match="support@production names event 77, which the history does not have"):
        status(store)


def test_promotion_and_its_neighbours_import_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "import budwood.release.promote, budwood.release.status, budwood.release.lineage\n"
        "import budwood.release.gate, budwood.release.make, budwood.release.measure\n"
        "print([name for name in ('torch', 'numpy', 'scipy', 'sqlalchemy', 'transformers') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout.strip() == "[]"


def test_a_promotion_that_waits_asks_servers_to_be_ready_first(store: Store, release: Releaser) -> None:
    first, second, _ = three(store, release)
    store.observe("a", "support", "production", first, True, "")
    store.observe("b", "support", "production", first, True, "")
    said = {2: "a", 4: "b"}
    passed = [0.0]

    def sleep(seconds: float) -> None:
        passed[0] += 1
        assert store.find_release("support").digest != second
        if int(passed[0]) in said:
            store.warmups.report(said[int(passed[0])], second, True, "ready")

    warm_up(store, store.find_release("support@2"), wait_s=30, clock=lambda: passed[0], sleep=sleep)
    assert passed[0] == 4
    assert [row.digest for row in store.warmups.rows()] == [second]


def test_a_server_that_says_nothing_holds_a_promotion_up_no_longer_than_is_waited(store: Store, release: Releaser) -> None:
    first, _, _ = three(store, release)
    store.observe("a", "support", "production", first, True, "")
    passed = [0.0]

    def sleep(seconds: float) -> None:
        passed[0] += 1

    warm_up(store, store.find_release("support@2"), wait_s=5, clock=lambda: passed[0], sleep=sleep)
    assert passed[0] == 5


def test_a_move_that_is_made_is_no_failure_because_the_asking_could_not_be_ended(
    store: Store, release: Releaser, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = release()
    store.server_beat("a")

    def locked(warmups: Warmups, name: str, digest: str) -> None:
        raise StoreError("The catalog is locked by another process; waited 10 s.")

    monkeypatch.setattr(Warmups, "end", locked)
    moved = promote(store, "support@1", who="t", reason="", wait_s=0.01)
    assert moved.digest == made.digest
    assert store.find_release("support").digest == made.digest


def test_what_goes_while_servers_get_ready_stops_the_move(
    store: Store, release: Releaser, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = release()
    store.server_beat("a")

    def gone(*arguments: Any, **more: Any) -> None:
        store.tombstone(made.adapter, who="t", reason="asked for")

    monkeypatch.setattr("budwood.release.promote.warm_up", gone)
    with pytest.raises(StoreError, match="asked for"):
        promote(store, "support@1", who="t", reason="", wait_s=0.01)
    assert store.aliases() == []
