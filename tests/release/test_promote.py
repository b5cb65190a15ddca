"""Promotion and rollback: who may move an alias, where to, and who has followed."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from budwood.errors import ReleaseError, StoreError
from budwood.identity import digest_json
from budwood.release.make import Decoding
from budwood.release.promote import followed, promote, rollback, wait_for_servers
from budwood.release.status import status
from budwood.store import Store, open_store

from .conftest import Releaser


def up(store: Store, ref: str, *, expect: str | None = None, override: str | None = None) -> str:
    return promote(store, ref, "production", expect=expect, who="anna", reason="weekly", override=override).digest


def test_a_release_that_passed_its_gate_goes_live(store: Store, release: Releaser) -> None:
    first = release(1)
    moved = promote(store, "support@1", "production", who="anna", reason="first", expect="none")
    assert (moved.digest, moved.version, moved.before, moved.servers) == (first.digest, 1, None, ())
    event = store.history("support")[-1]
    assert (event.kind, event.to, event.override, event.seq) == ("promoted", first.digest, False, moved.seq)
    assert event.verdict is not None
    assert moved.as_dict()["followed"] is True


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


def test_rolling_back_where_nothing_is_live_is_refused(store: Store, release: Releaser) -> None:
    release(1)
    with pytest.raises(ReleaseError, match='support has no alias "production"'):
        rollback(store, "support", "production", who="ben", reason="x")


def test_rolling_back_to_what_was_removed_is_refused_without_a_fallback(store: Store, release: Releaser) -> None:
    _, second, third = three(store, release)
    adapter = store.manifest(second).body["result"]["digest"]
    store.tombstone(adapter, who="anna", reason="asked for")
    with pytest.raises(StoreError, match="asked for"):
        rollback(store, "support", "production", who="ben", reason="x")
    assert store.find_release("support").digest == third


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


def no_sleep(seconds: float) -> None:
    raise AssertionError(f"waited {seconds} s")


def test_a_server_that_died_is_named_but_not_waited_for(tmp_path: Path) -> None:
    now = [datetime(2026, 3, 3, 14, 0, tzinfo=UTC)]
    with open_store(tmp_path / "store", clock=lambda: now[0]) as store:
        digest = digest_json("another release")
        for server in ("dead", "alive"):
            store.observe(server, "support", "production", digest, True, "")
        store.server_beat("dead without a word")
        now[0] += timedelta(seconds=11)
        store.server_beat("alive")
        states = wait_for_servers(store, "support", "production", digest, wait_s=60, sleep=no_sleep)
        assert [(state.server_id, state.state) for state in states] == [("alive", "follows"), ("dead", "lost")]
        assert states[1].detail == f"not heard of since 2026-03-03T14:00:00, when it was at {digest[:12]}…"
        assert followed(states)
        now[0] += timedelta(days=2)
        store.server_beat("alive")
        assert [server.server_id for server in store.servers()] == ["alive"]
        assert store.served_at("support", "production", now[0]) == {"alive": digest}


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
    assert status(store, "other").aliases == ()


def test_promotion_and_its_neighbours_import_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "import budwood.release.promote, budwood.release.status, budwood.release.lineage\n"
        "import budwood.release.gate, budwood.release.make, budwood.release.measure\n"
        "print([name for name in ('torch', 'numpy', 'scipy', 'sqlalchemy', 'transformers') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout.strip() == "[]"
