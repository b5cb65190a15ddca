"""The main job as a user walks it: one recipe, one command, a served answer, and the way back to a row."""

import json
import re
import shutil
import subprocess
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


def test_rows_are_forgotten_by_everything_that_was_made_of_them(
    small_job: Path, budwood: Run, store: Path, tmp_path: Path
) -> None:
    folder = tmp_path / ".budwood"
    shutil.copytree(store, folder, ignore=shutil.ignore_patterns("tmp"))
    snapshot = json.loads(budwood("prepare", "recipe.toml", "--store", folder, "--json", cwd=small_job).stdout)["snapshot"]
    lines = {name: _rows(folder, snapshot, name) for name in ("train", "validation", "test", "rejected")}
    # The last validation row is none of those that golden probes are chosen from.
    said = [rows[-1]["messages"][-2]["content"] for rows in lines.values()]
    looked_for = [word for text in said for word in ("--match", text)]
    done = budwood("data", "forget", *looked_for, "--yes", "--reason", "asked to", "--store", folder, "--json", cwd=small_job)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["complete"]
    assert told["found"]["trained"]["live"] == ["support-triage@production"]
    assert all(told["found"]["by_split"][name] >= 1 for name in lines)
    marks = [json.dumps(text, ensure_ascii=False)[1:-1].encode() for text in said]
    marks += [array("i", _tokens(text)[2:-2]).tobytes() for text in said[:2]]
    before, after = (
        {mark for path in root.rglob("*") if path.is_file() for mark in marks if mark in path.read_bytes()}
        for root in (store, folder)
    )
    assert before == set(marks)
    assert after == set()
    assert budwood("verify", "--store", folder, cwd=small_job).returncode == 0
    again = json.loads(budwood("prepare", "recipe.toml", "--store", folder, "--json", cwd=small_job).stdout)
    assert again["snapshot"] == told["replaced"][snapshot]
    counts = again["counts"]
    assert counts["kept"] + counts["rejected"] + counts["forgotten"] == counts["read"]


def _rows(store: Path, snapshot: str, name: str) -> list[dict[str, Any]]:
    lines = (store / "objects" / snapshot[:2] / snapshot / f"{name}.jsonl").read_text("utf-8").splitlines()
    return [row for row in map(json.loads, lines) if len(row.get("messages", ())) > 1]


def _tokens(text: str) -> list[int]:
    """Ids of a text by the bundled base's tokenizer; at its ends they may differ from those within a conversation."""
    from tokenizers import Tokenizer

    import budwood.seedling

    file = Path(budwood.seedling.__file__).parent / "tokenizer.json"
    return list(Tokenizer.from_file(str(file)).encode(text, add_special_tokens=False).ids)
