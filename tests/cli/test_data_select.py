"""`budwood data score` and `select` as a user meets them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from budwood.prepare.run import prepare
from budwood.recipe import recipe_from_mapping
from budwood.store import open_store

LETTERS = "kettleteapotsaucerspooncupplatebowlforkjugpanlidtray"


def budwood(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "budwood", "data", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a store that holds one snapshot, and its digest."""
    folder = tmp_path_factory.mktemp("project")
    rows = [{"prompt": f"question {i}", "completion": LETTERS[: i + 1]} for i in range(40)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    section = {"near_duplicate": 1.0, "validation": 0.0, "test": 0.0}
    recipe = recipe_from_mapping({"name": "x", "source": [{"path": "rows.jsonl"}], "prepare": section}, folder=folder)
    with open_store(folder / ".budwood") as store:
        return folder, prepare(recipe, store, token_length=None, context=0)


def test_scores_are_shown_and_written(place: tuple[Path, str]) -> None:
    folder, snapshot = place
    # By its name; below, by its digits.
    done = budwood("score", "x", "--by", "length", "--out", "scores.jsonl", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"40 train rows of snapshot {snapshot[:12]} by length:" in done.stdout
    assert "  all   1    5    11   21   30   36   40" in done.stdout
    assert "  1     40" in done.stdout
    assert "rows.jsonl:40" in done.stdout
    assert LETTERS[:5] not in done.stdout, "no row's text is printed"
    lines = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    assert [(line["line"], line["score"], line["rank"]) for line in lines] == [(i, float(i), 41 - i) for i in range(1, 41)]


def test_what_cannot_be_written_is_said_before_the_work(place: tuple[Path, str]) -> None:
    folder, _ = place
    done = budwood("score", "x", "--by", "length", "--out", "no/such.jsonl", cwd=folder)
    assert (done.returncode, done.stdout) == (3, "")
    assert "There is no folder 'no'. In --out." in done.stderr


def test_a_selection_and_as_many_random_rows(place: tuple[Path, str]) -> None:
    folder, snapshot = place
    arguments = ("select", snapshot[:12], "--top", "25%", "--by", "novelty", "--compare-random", "--seed", "7")
    told = json.loads(budwood(*arguments, "--json", cwd=folder).stdout)
    assert told["parent"] == snapshot
    assert (told["selected"]["kept"], told["random"]["kept"], told["random"]["settings"]) == (10, 10, {"seed": 7})
    done = budwood(*arguments, cwd=folder)
    for name in ("selected", "random"):
        digest = told[name]["snapshot"][:12]
        assert f"  {name:<8}  {digest}, 10 of 40 train rows" in done.stdout
        assert f"budwood train RECIPE.toml --snapshot {digest}\n" in done.stdout
    with open_store(folder / ".budwood") as store:
        assert store.manifest(told["selected"]["snapshot"]).parents == (snapshot,)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--top", "a lot"), "'a lot' is no number of rows."),
        (("--top", "9", "--by", "ifd"), "IFD needs a base that reads the rows."),
        (("--top", "9", "--by", "length", "--precision", "bfloat16"), "only --by ifd asks a base, not length."),
        (("--top", "9", "--by", "length", "--without-mismatched"), "rows have an IFD with --by ifd, not length."),
        (("--top", "9", "--by", "length", "--train", "r.toml"), "needs --compare-random"),
        (("--top", "9", "--by", "random", "--compare-random"), "the selection is random already"),
        (("--top", "41", "--by", "length"), "41 rows are wanted, and there are 40."),
    ],
)
def test_mistakes_are_told(place: tuple[Path, str], arguments: tuple[str, ...], said: str) -> None:
    folder, snapshot = place
    done = budwood("select", snapshot[:12], *arguments, cwd=folder)
    assert done.returncode == 3, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
