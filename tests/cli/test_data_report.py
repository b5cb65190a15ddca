"""`budwood data report` from the command line: what it prints, what it writes, and how it fails."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from budwood.prepare.run import prepare
from budwood.recipe import load_recipe
from budwood.store import open_store

RECIPE = """name = "support"
[[source]]
path = "rows.jsonl"
[prepare]
validation = 0.2
test = 0.3
"""


def budwood(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "budwood", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    rows = [{"prompt": f"{n * 7919 % 9973} lost {n * n % 997}?", "completion": ("a", "b")[n % 2]} for n in range(200)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "log.jsonl").write_text('{"prompt": "one"}\n', encoding="utf-8")
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    with open_store(folder / ".budwood") as store:
        prepare(load_recipe(folder / "recipe.toml"), store, token_length=None, context=0)
    return folder


def test_the_page_is_written_and_the_outcome_said(project: Path) -> None:
    done = budwood("data", "report", "support", "--recipe", "recipe.toml", "--production", "log.jsonl", cwd=project)
    assert done.returncode == 0, done.stderr
    (page,) = project.glob("support-data-*.html")
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert f"Report: {page.name} (" in done.stdout
    assert "Test and train cannot be told apart" in done.stdout
    assert "Production and test: Too little to tell: production has 1 row in 1 group" in done.stdout
    assert all(len(line) <= 200 for line in done.stdout.splitlines())


def test_json_has_the_figures(project: Path) -> None:
    done = budwood("data", "report", "--out", "page.html", "--json", cwd=project)
    said = json.loads(done.stdout)
    assert said["page"] == "page.html"
    assert said["bytes"] == (project / "page.html").stat().st_size
    assert [one["second"] for one in said["comparisons"]] == ["validation", "test"]
    assert said["comparisons"][1]["auc"]["low"] < 0.5 < said["comparisons"][1]["auc"]["high"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["suport"], "'suport'"),
        (["--out", "no/such/page.html"], "There is no folder 'no/such'."),
        (["--out", "."], "'.' is a folder."),
        (["--production", "absent.jsonl"], "There is no file 'absent.jsonl'. In --production."),
        (["--recipe", "absent.toml"], "There is no recipe 'absent.toml'."),
    ],
)
def test_mistakes_are_plain_sentences(arguments: list[str], words: str, project: Path) -> None:
    done = budwood("data", "report", *arguments, cwd=project)
    assert done.returncode == 3
    assert words in done.stderr
    assert "Traceback" not in done.stderr
