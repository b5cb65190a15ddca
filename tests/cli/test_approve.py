"""`budwood approvals`, `approve` and `promote` together, as people type them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from budwood.cli.main import build_app
from budwood.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """One release that its gate let through."""
    with open_store(tmp_path / "store") as store:
        with store.draft("base") as draft:
            (draft.folder / "a.txt").write_text("b")
            base = draft.commit()
        with store.draft("release") as draft:
            (draft.folder / "a.txt").write_text("a")
            verdict: dict[str, object] = {"verdict": "PROMOTE", "reasons": [], "champion_subject": None}
            body = {"verdict": verdict, "base": {"object": base}, "result": {"digest": base}}
            digest = draft.commit(body=body, parents=[base])
        store.add_release("support", digest, who="anna", reason="")
        yield store


def test_two_people_approve_and_a_third_promotes(store: Store) -> None:
    def run(words: str) -> str:
        done = CliRunner().invoke(build_app(), [*words.split(), "--store", str(store.root)])
        return done.stdout + str(done.exception or "")

    assert run("approvals support --require 2 --who anna") == (
        "support@production asks for 2 approvals, by others than who made the release or moves the alias, since event 2.\n"
    )
    assert run("approve support@1 --who ben") == "support@1 approved for support@production: 1 of 2 approvals (ben).\n"
    assert "has 1 of 2 approvals (ben)" in run("promote support@1 --who dora")
    said = run("approve support@1 --who carla --reason read")
    assert said.splitlines()[-1] == f"  budwood promote support@1 --store {store.root}"
    table = run("approvals support").splitlines()
    assert [line.split()[-1] for line in table[2:]] == ["ben", "read"]
    assert "would make it weaker" in run("approvals support --require 0 --who eve")
    assert "support@production now points to version 1" in run("promote support@1 --who dora")
    assert run("approvals support --require 0 --override quiet --who eve").startswith(
        "support@production asks for no approvals"
    )
