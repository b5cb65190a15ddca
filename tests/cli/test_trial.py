"""A release on trial as `budwood status` and `budwood canary` show it; and going without approvals on the command line."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.store.conftest import put
from typer.testing import CliRunner

from budwood.cli.main import build_app
from budwood.release.approvals import set_rule
from budwood.release.promote import promote
from budwood.store import Store, open_store
from budwood.store.trials import TrialReport

ALL = ("--override", "known to be good", "--reason", "try it")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Version 1 is live, version 2 is not; one person has to approve."""
    with open_store(tmp_path / "store") as opened:
        base = put(opened, "base")
        for number in (1, 2):
            body = {"number": number, "base": {"object": base}, "result": {"digest": None}}
            digest = put(opened, "release", body=body, parents=[base])
            opened.add_release("support", digest, who="t", reason="")
        promote(opened, "support@1", who="t", reason="", override="first")
        set_rule(opened, "support", "production", approvals=1, own=False, who="anna", reason="customers read it")
        yield opened


def run(store: Store, *arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(build_app(), [*arguments, "--store", str(store.root)])
    return done.exit_code, done.stdout, str(done.exception or "")


def test_approvals_are_needed_unless_a_reason_to_go_without_is_given(store: Store) -> None:
    code, _, said = run(store, "canary", "start", "support@2", "--share", "10%", *ALL)
    assert code != 0
    assert "0 of 1 approvals" in said
    assert run(store, "canary", "start", "support@2", "--share", "10%", *ALL, "--without-approvals", "fire")[0] == 0
    assert store.history("support")[-1].reason == "known to be good | fire | try it"
    code, _, said = run(store, "canary", "promote", "support", *ALL)
    assert "0 of 1 approvals" in said
    assert run(store, "canary", "promote", "support", *ALL, "--without-approvals", "fire")[0] == 0
    assert store.aliases()[0].version == 2


def test_a_trial_has_one_line_wherever_it_is_listed(store: Store) -> None:
    run(store, "canary", "start", "support@2", "--share", "10%", *ALL, "--without-approvals", "fire")
    (trial,) = store.canaries.rows()
    report = TrialReport("s1", "support", "production", "canary", trial.digest, False, "no \x1b[31mroom", {})
    store.canaries.report(report)
    line = (
        f"support@production: canary version 2 ({trial.digest[:12]}) gets 10% of the traffic since {trial.since[:19]} "
        f"by {trial.who}; 0 of 1 servers have it"
    )
    listed = run(store, "status")[1].splitlines()
    shown = run(store, "canary", "status")[1].splitlines()
    assert f"  {line}" in listed
    assert listed[listed.index(f"  {line}") + 1].strip().startswith("limits: not settled yet: ")
    assert shown[0] == line
    assert shown[1] == "  why: known to be good | fire | try it"
    assert shown[2] == "  server s1: no \\x1b[31mroom"
    assert "  limits: not settled yet" in shown
    assert "\x1b" not in "".join([*listed, *shown])
