"""kill -9 between any two system calls leaves the old state or the new one, and doing it again finishes it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from budwood.store import open_store

from .conftest import put

SCRIPT = Path(__file__).parent / "kill_points.py"
REPOSITORY = Path(__file__).resolve().parents[2]


def runs_of(what: str, folder: Path) -> list[dict[str, Any]]:
    return runs_by(str(SCRIPT), str(folder), what)


def runs_by(*script: str) -> list[dict[str, Any]]:
    done = subprocess.run([sys.executable, *script], capture_output=True, text=True, timeout=1200, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    runs: list[dict[str, Any]] = json.loads(done.stdout)
    assert [run["killed"] for run in runs[:-1]] == [True] * (len(runs) - 1)
    assert runs[-1]["killed"] is False
    return runs


def test_bad_58_a_killed_commit_leaves_the_whole_object_or_none(tmp_path: Path) -> None:
    runs = runs_of("commit", tmp_path)
    assert len(runs) > 15
    counts = [len(run["after"]["objects"]) for run in runs]
    assert set(counts) == {4, 5}
    assert counts == sorted(counts)
    for run in runs:
        assert run["after"]["problems"] == []
        assert run["after"]["litter"] == []
        assert len(run["again"]["objects"]) == 5
        assert run["again"]["problems"] == []


def test_bad_58_a_killed_move_leaves_alias_and_history_agreeing(tmp_path: Path) -> None:
    runs = runs_of("move", tmp_path)
    for run in runs:
        assert run["after"]["problems"] == []
        assert run["again"]["problems"] == []
        assert run["again"]["moves"] == 2
        assert (run["after"]["production"] == run["again"]["production"]) == (run["after"]["moves"] == 2)
    assert {run["after"]["moves"] for run in runs} == {1, 2}


def test_a_killed_removal_is_finished_by_the_next(tmp_path: Path) -> None:
    runs = runs_of("tombstone", tmp_path)
    for run in runs:
        after = run["after"]
        unrecorded = [problem for problem in after["problems"] if "has a tombstone, but no event says so" in problem]
        still_here = [problem for problem in after["problems"] if "is still here after the removal" in problem]
        assert len(after["problems"]) == len(unrecorded) + len(still_here)
        assert len(still_here) == len(after["left"])
        assert run["again"]["problems"] == []
        assert run["again"]["left"] == []
        assert len(run["again"]["objects"]) == 3
    assert any(run["after"]["left"] == ["page.html"] for run in runs)
    assert any({"a.txt", "manifest.json", "page.html"} == set(run["after"]["left"]) for run in runs)


def test_a_killed_collection_leaves_a_whole_store(tmp_path: Path) -> None:
    for run in runs_of("collect", tmp_path):
        assert run["after"]["problems"] == []
        assert run["again"]["problems"] == []
        assert len(run["again"]["objects"]) == 3


def test_bad_58_a_killed_rollback_leaves_alias_and_history_agreeing(tmp_path: Path) -> None:
    runs = runs_of("rollback", tmp_path)
    for run in runs:
        assert run["after"]["problems"] == []
        assert run["again"]["problems"] == []
        assert run["again"]["moves"] == 3
        assert (run["after"]["production"] == run["again"]["production"]) == (run["after"]["moves"] == 3)
    assert {run["after"]["moves"] for run in runs} == {2, 3}


def test_bad_58_a_killed_approval_is_given_or_not(tmp_path: Path) -> None:
    runs = runs_of("approve", tmp_path)
    for run in runs:
        assert run["after"]["problems"] == []
        assert run["again"]["kinds"].count("approved") == 1
    assert {run["after"]["kinds"].count("approved") for run in runs} == {0, 1}


@pytest.mark.slow
def test_a_killed_deletion_is_named_and_finished(tmp_path: Path) -> None:
    runs = runs_of("delete", tmp_path)
    for run in runs:
        after, again = run["after"], run["again"]
        begun = after["kinds"].count("removal_begun") > after["kinds"].count("removal_ended")
        assert bool(after["problems"]) == begun
        assert again["problems"] == []
        assert again["left"] == []
        assert again["kinds"].count("deleted") == 1
        assert len(again["objects"]) == 3
    assert {"deleted" in run["after"]["kinds"] for run in runs} == {True, False}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)
def test_processes_that_are_killed_at_any_moment_leave_a_whole_store(tmp_path: Path, backend: str) -> None:
    root = tmp_path / "store"
    with open_store(root, url=backend) as store:
        for number in range(3):
            store.add_release("support", put(store, "release", body={"n": number}), who="t", reason="")
        store.move_alias("support", "production", store.find_release("support@1").digest, who="t", reason="")
    script = Path(__file__).parent / "restless.py"
    done = subprocess.run([sys.executable, script, root, "15"], capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    for one in json.loads(done.stdout):
        assert one["killed"]
        assert all("has not ended" in problem or "forget --finish" in problem for problem in one["problems"]), one
        assert one["again"] == []
        assert one["production"] == one["last"]
    assert one["moves"] > 5


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
@pytest.mark.parametrize(("way", "before", "after"), [("out", "here", "there"), ("back", "there", "here")])
def test_bad_58_a_killed_move_of_the_catalog_leaves_one_that_works_and_is_finished_by_the_next(
    tmp_path: Path, backend: str, way: str, before: str, after: str
) -> None:
    runs = runs_by("-m", "tests.store.kill_moves", str(tmp_path), backend, way)
    assert len(runs) > 30
    for run in runs:
        assert run["after"]["problems"] == run["works"] == run["again"]["problems"] == []
        assert run["after"]["place"] in (before, after)
        assert run["again"]["place"] == after
        assert run["after"]["production"] == run["again"]["production"]
        assert run["again"]["history"] == list(range(1, len(run["after"]["history"]) + 3))
        left = {"catalog.url", "moved-catalog.sqlite"} if after == "there" else {"catalog.sqlite", "moved-catalog.sqlite"}
        assert set(run["again"]["files"]) == left
    assert {run["after"]["place"] for run in runs} == {before, after}
