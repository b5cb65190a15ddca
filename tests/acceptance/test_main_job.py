"""The main job as a user walks it: one recipe, one command, a served answer, and the way back to a row."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from acceptance_tools import Run, environment


@pytest.fixture(scope="module")
def store(small_job: Path, budwood: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which the recipe was run once and its release is live, whatever the gate said of so small a test."""
    folder = tmp_path_factory.mktemp("store") / ".budwood"
    done = budwood("run", "recipe.toml", "--store", folder, cwd=small_job)
    assert done.returncode in (0, 1, 2), done.stderr
    assert "Traceback" not in done.stderr
    if done.returncode:
        moved = budwood(
            "promote", "support-triage@1", "--override", "a small test cannot settle it", "--store", folder, cwd=small_job
        )
        assert moved.returncode == 0, moved.stderr
    return folder


@contextmanager
def serving(store: Path, cwd: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "budwood", "serve", "--store", str(store), "--port", "0"]
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"(http://\S+:\d+)/v1 ", line)
        assert found, line + (process.stderr.read() if process.stderr else "")
        yield found[1]
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_second_run_does_nothing_again(small_job: Path, budwood: Run, store: Path) -> None:
    before = json.loads(budwood("status", "--store", store, "--json", cwd=small_job).stdout)["releases"]
    again = budwood("run", "recipe.toml", "--store", store, "--no-promote", "--json", cwd=small_job)
    assert again.returncode in (0, 1, 2), again.stderr
    assert json.loads(again.stdout)["digest"] == before[0]["digest"]
    assert "Training" not in again.stderr


def test_every_row_is_kept_or_rejected_with_a_reason(small_job: Path, budwood: Run, store: Path) -> None:
    counts = json.loads(budwood("prepare", "recipe.toml", "--store", store, "--json", cwd=small_job).stdout)["counts"]
    assert counts["kept"] + counts["rejected"] == counts["read"]
    assert counts["train"] + counts["validation"] + counts["test"] == counts["kept"]


def test_a_served_answer_leads_back_to_file_and_line(small_job: Path, budwood: Run, store: Path) -> None:
    with serving(store, small_job) as url:
        answer = json.loads(
            budwood("ask", "support-triage", "Where is order B4-20913?", "--url", url, "--json", cwd=small_job).stdout
        )
    fingerprint = answer["system_fingerprint"]
    shown = budwood("lineage", fingerprint, "--store", store, cwd=small_job)
    assert shown.returncode == 0, shown.stderr
    for kind in ("release", "report", "run", "adapter", "base", "snapshot"):
        assert re.search(rf"^\s*{kind} [0-9a-f]{{12}}", shown.stdout, re.MULTILINE), shown.stdout
    place = re.search(r"from (data/\S+) line (\d+)", shown.stdout)
    assert place, shown.stdout
    assert (small_job / place[1]).is_file()


def test_second_version_goes_there_and_back(small_job: Path, budwood: Run, store: Path) -> None:
    second = budwood("run", "recipe-v2.toml", "--store", store, "--no-promote", "--json", cwd=small_job)
    assert second.returncode in (0, 1, 2), second.stderr
    digest = json.loads(second.stdout)["digest"]
    with serving(store, small_job) as url:

        def answering() -> str:
            done = budwood("ask", "support-triage", "Where is order B4-20913?", "--url", url, "--json", cwd=small_job)
            return str(json.loads(done.stdout)["system_fingerprint"])

        first = answering()
        move = ("promote", "support-triage@2", "--override", "test", "--wait", "60", "--store", store)
        assert budwood(*move, cwd=small_job).returncode == 0
        assert answering() == digest != first
        assert budwood("rollback", "support-triage", "--wait", "60", "--store", store, cwd=small_job).returncode == 0
        assert answering() == first
    kinds = [event["kind"] for event in json.loads(budwood("history", "--store", store, "--json", cwd=small_job).stdout)]
    assert kinds.count("rolled_back") == 1
    assert budwood("verify", "--store", store, cwd=small_job).returncode == 0
