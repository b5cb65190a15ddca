"""kill -9 between any two system calls leaves the old state or the new one, and doing it again finishes it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parent / "kill_points.py"


def runs_of(what: str, folder: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), what], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    runs: list[dict[str, Any]] = json.loads(done.stdout)
    assert [run["killed"] for run in runs[:-1]] == [True] * (len(runs) - 1)
    assert runs[-1]["killed"] is False
    return runs


def test_a_killed_commit_leaves_the_whole_object_or_none(tmp_path: Path) -> None:
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


def test_a_killed_move_leaves_alias_and_history_agreeing(tmp_path: Path) -> None:
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
