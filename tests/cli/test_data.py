"""`budwood data` as a user meets it: lists, stories and differences in sentences that fit a terminal."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from budwood.data.rows import kept_rows
from budwood.identity import short
from budwood.prepare.run import prepare
from budwood.recipe import recipe_from_mapping
from budwood.store import open_store

ROWS = [{"prompt": f"{letter * 9} is what?", "completion": letter} for letter in "abcdefghij"]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A folder with a store of two snapshots; the second has a row more, a repeated one, and one whose text is hostile."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        home = Path(folder)
        hostile = {"prompt": "What does \x1b[2J do?", "completion": "It clears."}
        with open_store(home / ".budwood") as store:
            onto = None
            for rows in (ROWS, [*ROWS, hostile, ROWS[0]]):
                (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
                recipe = {"name": "support", "source": [{"path": "rows.jsonl"}], "prepare": {"rules": ["whitespace"]}}
                onto = prepare(recipe_from_mapping(recipe, folder=home), store, token_length=None, context=0, onto=onto)
        yield home


def budwood(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "budwood", "data", *arguments]
    return subprocess.run(command, cwd=home, capture_output=True, text=True, env=environment, check=False)


def read(home: Path, *arguments: str) -> Any:
    done = budwood(home, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_snapshots_are_listed_oldest_first(home: Path) -> None:
    first, second = read(home, "list")["snapshots"]
    assert (first["name"], first["counts"]["kept"], first["onto"]) == ("support", 10, "")
    assert (second["counts"]["rejected"], second["onto"], second["uses"]) == (1, first["digest"], [])
    shown = budwood(home, "list").stdout
    assert f"budwood data diff {short(first['digest'])} {short(second['digest'])}" in shown
    other = budwood(home, "list", "other")
    assert other.returncode != 0
    assert "other" in other.stderr


def test_a_story_is_told_of_the_newest_snapshot_unless_another_is_named(home: Path) -> None:
    first, second = read(home, "list")["snapshots"]
    told = budwood(home, "why", "rows.jsonl:12")
    assert told.returncode == 0, told.stderr
    assert "rejected, of snapshot " + short(second["digest"]) in told.stdout
    assert "exact_duplicate 1: same prompt and answer as row" in told.stdout
    for ref in (first["digest"][:8], second["digest"]):
        found = read(home, "why", "rows.jsonl:1", ref)
        assert ref in found["snapshot"]
        assert found["story"]["source"]["path"] == "rows.jsonl"
    assert read(home, "why", "rows.jsonl:1", "support")["snapshot"] == second["digest"]
    kept = read(home, "why", "rows.jsonl:1")["story"]
    assert kept["rejected_for_it"]["by"] == {"exact_duplicate": 1}
    assert kept["placing"]["why"] == "inherited"


def test_what_a_row_says_cannot_steer_the_terminal(home: Path) -> None:
    told = budwood(home, "why", "rows.jsonl:11")
    assert "What does \\x1b[2J do?" in told.stdout
    assert "\x1b" not in told.stdout


def test_several_rows_are_listed_to_choose_from(home: Path) -> None:
    digest = read(home, "list")["snapshots"][-1]["digest"]
    with open_store(home / ".budwood", read_only=True) as store:
        digit, count = Counter(row.row_id[0] for row in kept_rows(store, digest)).most_common(1)[0]
    assert count > 1
    found = read(home, "why", digit)
    assert len(found["matches"]) >= count
    assert found["story"] is None
    assert "rows are meant:" in budwood(home, "why", digit).stdout


def test_a_difference_is_told_in_80_columns(home: Path) -> None:
    first, second = (one["digest"] for one in read(home, "list")["snapshots"])
    shown = budwood(home, "diff", first[:10], "support", "--rows", "2")
    assert shown.returncode == 0, shown.stderr
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert "new, kept" in shown.stdout
    assert f'onto: "" → {short(first)}' in shown.stdout
    counts = {name: kind["count"] for name, kind in read(home, "diff", first, second)["rows"].items() if kind["count"]}
    assert counts == {"added": 1, "added_rejected": 1, "unchanged": 10}
    assert "one and the same" in budwood(home, "diff", first, first).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("why", "rows.jsonl:99"), "has no row from rows.jsonl line 99"),
        (("why", "rows"), "'rows' names no row"),
        (("why", "rows.jsonl:1", "nobody"), "No snapshot is called 'nobody'. Names: support."),
        (("diff", "support", "support@production"), "support"),
    ],
)
def test_mistakes_are_told(home: Path, arguments: tuple[str, ...], said: str) -> None:
    done = budwood(home, *arguments)
    assert (done.returncode, done.stdout) == (3, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    open_store(tmp_path / ".budwood").close()
    assert "budwood prepare RECIPE.toml" in budwood(tmp_path, "list").stdout
    done = budwood(tmp_path, "why", "rows.jsonl:1")
    assert done.returncode == 3
    assert "There is no snapshot in this store." in done.stderr
