"""A release on trial: who may begin one, what may happen meanwhile, and that it is taken back exactly once."""

from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
from tests.store.conftest import edit, empty

from budwood.errors import ReleaseError, StoreError
from budwood.identity import Digest
from budwood.recipe import CanarySection
from budwood.release.approvals import approve, set_rule
from budwood.release.canary import change, end, guard, promote_canary, start, statuses, watch
from budwood.release.promote import promote, rollback
from budwood.stats.outcomes import Outcomes
from budwood.store import Store, open_store
from budwood.store.trials import Trial, TrialReport

from .conftest import Clock, put

POLICY = CanarySection(max_error_rate=0.05)
GOOD, BAD = Outcomes(400, 1, latencies={100: 400}), Outcomes(400, 80, latencies={100: 400})


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    """Canaries have tables of their own: both databases."""
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgres_server")
    if url:
        empty(url)
    with open_store(tmp_path / ".budwood", url=url, clock=clock) as opened:
        # Once, so that the folder knows its catalog and may be opened without the URL.
        opened.aliases()
        yield opened


def release(store: Store, number: int) -> Digest:
    base = put(store, "base", {"a": "base"})
    body = {"number": number, "base": {"object": base}, "result": {"digest": None}}
    digest = put(store, "release", body=body, parents=[base])
    store.add_release("support", digest, who="t", reason="")
    return digest


@pytest.fixture
def live(store: Store) -> tuple[Digest, Digest]:
    """Version 1 is production, version 2 is not."""
    one, two = release(store, 1), release(store, 2)
    promote(store, "support@1", who="t", reason="", override="first")
    return one, two


def begin(store: Store, **more: Any) -> Trial:
    given: dict[str, Any] = {
        "share": 0.1,
        "policy": POLICY,
        "who": "anna",
        "reason": "try it",
        "override": "known to be good",
    } | more
    return start(store, "support@2", **given)


def say(store: Store, trial: Trial, tried: Outcomes, stable: Outcomes = GOOD, server: str = "s1") -> None:
    counts = {"trial": tried.as_dict(), "stable": stable.as_dict()}
    report = TrialReport(server, trial.name, trial.alias, trial.kind, trial.digest, True, "answers", counts)
    store.canaries.report(report)


def at(store: Store) -> Digest:
    return store.aliases("support")[0].digest


def test_a_canary_needs_what_a_promotion_needs_and_a_shadow_does_not(store: Store, live: Any) -> None:
    with pytest.raises(ReleaseError, match="never judged by a gate"):
        begin(store, override=None)
    assert begin(store, override=None, kind="shadow").kind == "shadow"
    assert begin(store).share == 0.1
    event = store.history("support")[-1]
    assert (event.kind, event.who, event.reason, event.override) == (
        "canary_started",
        "anna",
        "known to be good | try it",
        True,
    )
    assert store.verify().ok


def test_nothing_is_tried_where_nothing_is_live_nor_against_itself_nor_beside_another(store: Store, live: Any) -> None:
    release(store, 3)
    with pytest.raises(ReleaseError, match="no traffic to share"):
        begin(store, alias="staging")
    with pytest.raises(ReleaseError, match="is support@production already"):
        start(store, "support@1", share=0.1, policy=POLICY, who="t", reason="")
    begin(store)
    with pytest.raises(ReleaseError, match="has a canary already: version 2"):
        start(store, "support@3", share=0.1, policy=POLICY, who="t", reason="", override="x")
    with pytest.raises(StoreError, match="no share"):
        begin(store, share=1.5)


def test_a_change_of_share_is_an_event_and_keeps_the_rest(store: Store, live: Any) -> None:
    first = begin(store)
    second = change(store, "support", "production", "canary", share=0.5, who="ben", reason="going well")
    assert (second.share, second.since, second.policy, second.against) == (0.5, first.since, first.policy, first.against)
    assert [event.kind for event in store.history("support")][-2:] == ["canary_started", "canary_changed"]
    with pytest.raises(StoreError, match=r"at 50% of the traffic, by ben"):
        store.canaries.end("support", "production", "canary", who="t", reason="", expect=first.seq)
    end(store, "support", "production", "canary", who="ben", reason="enough")
    with pytest.raises(ReleaseError, match="has no canary"):
        end(store, "support", "production", "canary", who="ben", reason="again")


def test_what_is_on_trial_cannot_be_removed(store: Store, live: Any) -> None:
    begin(store)
    with pytest.raises(StoreError, match=r"support@production \(canary\)"):
        store.tombstone(live[1], who="t", reason="clean")


def test_a_broken_limit_ends_the_canary_with_its_figures_and_an_open_one_does_nothing(store: Store, live: Any) -> None:
    trial = begin(store)
    say(store, trial, Outcomes(2, 1))
    assert guard(store, "s1") == []
    assert statuses(store)[0].judgement.sentence == "2 of 50 requests seen"
    say(store, trial, BAD)
    (said,) = guard(store, "s1")
    assert "errors 80 of 400" in said
    event = store.history("support")[-1]
    assert (event.kind, event.who) == ("canary_ended", "server s1 (policy)")
    assert event.detail["counts"]["trial"]["errors"] == 80
    assert event.detail["counts"]["stable"]["requests"] == 400
    assert (statuses(store), at(store)) == ((), live[0])


def test_the_counts_of_servers_are_judged_together_and_those_of_silent_ones_not(store: Store, live: Any, clock: Clock) -> None:
    trial = begin(store)
    say(store, trial, Outcomes(30, 12), server="s1")
    assert statuses(store)[0].judgement.outcome == "open"
    say(store, trial, Outcomes(30, 12), server="s2")
    assert statuses(store)[0].judgement.outcome == "broken"
    clock.forward(60)
    say(store, trial, Outcomes(30, 0), server="s2")
    assert statuses(store)[0].tried.requests == 30


def test_of_servers_that_see_it_at_once_one_takes_it_back(store: Store, live: Any, clock: Clock) -> None:
    """Both kinds: a canary that is ended, and an alias that is rolled back; six processes' worth of stores."""
    for kind in ("canary", "watch"):
        if kind == "canary":
            trial = begin(store)
        else:
            promote(store, "support@2", who="t", reason="", override="go")
            trial = watch(store, "support", "production", lasts_s=600, policy=POLICY, who="t", reason="")
        say(store, trial, BAD)
        together = Barrier(6)
        done: list[str] = []

        def look(number: int, together: Barrier = together, done: list[str] = done) -> None:
            with open_store(store.root, clock=clock) as mine:
                together.wait()
                done.extend(guard(mine, f"s{number}"))

        threads = [Thread(target=look, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert at(store) == live[0]
        kinds = [event.kind for event in store.history("support")]
        assert kinds.count(f"{kind}_ended") == 1
        assert kinds.count("rolled_back") == (1 if kind == "watch" else 0)
        assert store.verify().ok
    moved = next(event for event in store.history("support") if event.kind == "rolled_back")
    assert moved.who.endswith("(policy)")
    assert "errors 80 of 400" in moved.reason


def test_a_promoted_canary_is_watched_and_goes_back_once(store: Store, live: Any, clock: Clock) -> None:
    trial = begin(store, policy=POLICY.model_copy(update={"watch_s": 600.0}))
    say(store, trial, GOOD)
    with pytest.raises(ReleaseError, match="never judged"):
        promote_canary(store, "support", "production", who="anna", reason="")
    promote_canary(store, "support", "production", who="anna", reason="", override="known to be good")
    assert at(store) == live[1]
    (found,) = statuses(store)
    assert (found.trial.kind, found.trial.against, found.stable) == ("watch", live[0], GOOD)
    say(store, found.trial, BAD)
    guard(store, "s1")
    assert (at(store), statuses(store)) == (live[0], ())


def test_a_watch_that_is_over_ends_and_leaves_the_alias(store: Store, live: Any, clock: Clock) -> None:
    promote(store, "support@2", who="t", reason="", override="go")
    watch(store, "support", "production", lasts_s=60, policy=POLICY, who="t", reason="")
    assert guard(store, "s1") == []
    clock.forward(61)
    (said,) = guard(store, "s1")
    assert "no limit broken" in said
    assert at(store) == live[1]


def test_a_canary_whose_alias_has_moved_ends(store: Store, live: Any) -> None:
    begin(store)
    release(store, 3)
    promote(store, "support@3", who="t", reason="", override="x")
    (said,) = guard(store, "s1")
    assert "the alias has moved to" in said
    with pytest.raises(ReleaseError, match="has no canary"):
        promote_canary(store, "support", "production", who="t", reason="")


def test_somebody_elses_move_is_never_taken_back_by_a_watch(store: Store, live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The alias moves between the look and the rollback: the compare-and-swap refuses."""
    promote(store, "support@2", who="t", reason="", override="go")
    trial = watch(store, "support", "production", lasts_s=600, policy=POLICY, who="t", reason="")
    say(store, trial, BAD)
    third = release(store, 3)

    def late(*arguments: Any, **more: Any) -> Any:
        promote(store, "support@3", who="t", reason="", override="x")
        return rollback(*arguments, **more)

    monkeypatch.setattr("budwood.release.canary.rollback", late)
    assert guard(store, "s1") == []
    assert at(store) == third
    monkeypatch.undo()
    guard(store, "s1")
    assert (at(store), statuses(store)) == (third, ())


def test_a_catalog_of_the_second_schema_gets_the_tables(tmp_path: Path) -> None:
    from sqlalchemy import create_engine, text
    from sqlalchemy.pool import NullPool

    root = tmp_path / "older"
    with open_store(root) as store:
        store.aliases()
    with create_engine(f"sqlite:///{root / 'catalog.sqlite'}", poolclass=NullPool).begin() as connection:
        for table in ("access_tokens", "audit", "trials", "trial_reports", "drifts", "warmups", "warm_reports"):
            connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0002'"))
    with open_store(root) as store:
        assert (store.canaries.rows(), store.warmups.rows()) == ([], [])


def test_a_trial_that_somebody_wrote_into_the_table_is_found(store: Store, live: Any) -> None:
    """Else whoever can write there gives any release its share of the traffic."""
    begin(store)
    assert store.verify().ok
    edit(store, "CREATE TABLE kept AS SELECT * FROM trials")
    for written in ("share = 1.0", "policy = '{}'", "seq = 1", "alias = 'staging'"):
        edit(store, f"UPDATE trials SET {written}")
        assert any("canary of support@" in problem for problem in store.verify().problems), written
        edit(store, "DELETE FROM trials")
        assert store.verify().problems == ("canary of support@production: is not what the history says",)
        edit(store, "INSERT INTO trials SELECT * FROM kept")
        assert store.verify().ok
    edit(store, "DROP TABLE kept")


def test_a_canary_needs_the_approvals_that_its_alias_asks_for(store: Store, live: Any) -> None:
    set_rule(store, "support", "production", approvals=1, own=False, who="anna", reason="customers read it")
    with pytest.raises(ReleaseError, match="has 0 of 1 approvals"):
        begin(store)
    assert store.canaries.rows() == []
    approve(store, "support@2", "production", who="ben", reason="read it")
    assert begin(store).digest == store.find_release("support@2").digest


def test_a_canary_may_do_without_approvals_as_a_promotion_may_and_it_is_on_record(store: Store, live: Any) -> None:
    set_rule(store, "support", "production", approvals=1, own=False, who="anna", reason="customers read it")
    with pytest.raises(ReleaseError, match="The without-approvals has no reason"):
        begin(store, without_approvals=" ")
    with pytest.raises(ReleaseError, match="never judged by a gate"):
        begin(store, override=None, without_approvals="fire")
    begin(store, without_approvals="fire")
    event = store.history("support")[-1]
    assert (event.kind, event.override, event.reason) == ("canary_started", True, "known to be good | fire | try it")
    with pytest.raises(ReleaseError, match="has 0 of 1 approvals"):
        promote_canary(store, "support", "production", who="anna", reason="", override="good")
    promote_canary(store, "support", "production", who="anna", reason="", override="good", without_approvals="fire")
    moved = next(event for event in reversed(store.history("support")) if event.kind == "promoted")
    assert (moved.to, moved.override) == (live[1], True)
    assert moved.reason.startswith("good | fire | ")
    assert store.verify().ok


def test_a_canary_that_is_taken_back_while_servers_get_ready_is_not_promoted(
    store: Store, live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = begin(store)
    say(store, trial, BAD)
    monkeypatch.setattr("budwood.release.promote.warm_up", lambda *_, **__: guard(store, "s1"))
    with pytest.raises(ReleaseError, match=r"has ended meanwhile, by server s1 \(policy\): policy: errors 80 of 400"):
        promote_canary(store, "support", "production", who="anna", reason="", override="known to be good", wait_s=0.01)
    assert (at(store), statuses(store), store.warmups.rows()) == (live[0], (), [])
