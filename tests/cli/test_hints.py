"""What a command advises next: only what is sensible, and on the store that it worked on itself."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from budwood.cli.release import next_commands
from budwood.identity import Digest
from budwood.pipeline import Released
from budwood.store import open_store

Verdict = Literal["PROMOTE", "REJECT", "INCONCLUSIVE"]


def released(verdict: Verdict, *, live: bool = False, alias: str = "production") -> Released:
    return Released("support", 2, Digest("d"), verdict, (), alias, "", live, Path("page"))


@pytest.mark.parametrize(
    ("given", "commands"),
    [
        (released("PROMOTE"), ["budwood promote support@2 --store s"]),
        (released("PROMOTE", alias="staging"), ["budwood promote support@2 --alias staging --store s"]),
        (released("PROMOTE", live=True), ["budwood serve --store s", "budwood status --store s"]),
        (released("REJECT"), ["budwood status support --store s"]),
        (released("INCONCLUSIVE"), ["budwood status support --store s"]),
    ],
)
def test_promotion_is_advised_where_the_gate_lets_it_through(given: Released, commands: list[str]) -> None:
    assert next_commands(given, Path("s")) == commands


def budwood(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "budwood", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("option", [("--store", "my store"), ("--store=my store",)])
def test_advice_names_the_store_that_was_named(tmp_path: Path, option: tuple[str, ...]) -> None:
    done = budwood("status", *option, cwd=tmp_path)
    assert "or make one with `budwood run RECIPE --store 'my store'`." in done.stderr
    open_store(tmp_path / "my store").close()
    served = budwood("serve", "--port", "0", *option, cwd=tmp_path)
    assert "Make one with `budwood run RECIPE --store 'my store'`." in served.stderr


def test_verify_counts_one_problem_as_one(tmp_path: Path) -> None:
    with open_store(tmp_path / ".budwood") as store, store.draft("snapshot") as draft:
        (draft.folder / "train.jsonl").write_text("{}\n")
        digest = draft.commit(body={"name": "support"})
    path = store.folder(digest) / "train.jsonl"
    path.chmod(0o644)
    path.write_text("[]\n")
    done = budwood("verify", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.endswith(": 1 problem.\n")


def test_a_missing_source_makes_no_store(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('name = "x"\n[[source]]\npath = "rows.jsonl"\n')
    for command in ("prepare", "train", "evaluate", "release", "run"):
        done = budwood(command, "r.toml", cwd=tmp_path)
        assert done.returncode == 3
        assert "There is no source 'rows.jsonl'." in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["r.toml"]


def test_tokens_that_the_base_has_not_are_found_by_the_plan(tmp_path: Path) -> None:
    recipe = 'name = "x"\n[[source]]\npath = "rows.jsonl"\n[train]\ntoken_rows = '
    for rows, said in (
        ('["<|call|>"]', '"<|call|>" is 3 tokens.'),
        ("[7168]", "token 7168 is no row of this base, which has 7,168."),
    ):
        (tmp_path / "r.toml").write_text(f"{recipe}{rows}\n")
        done = budwood("plan", "r.toml", cwd=tmp_path)
        assert done.returncode == 3
        assert said in done.stderr


def test_a_plan_without_data_says_so(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('name = "x"\n[[source]]\npath = "rows.jsonl"\n')
    done = budwood("plan", "r.toml", cwd=tmp_path)
    assert done.returncode == 0
    assert "Note: This predicts without data. There is no source 'rows.jsonl'.\n" in done.stdout
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    warnings = json.loads(budwood("plan", "r.toml", "--json", cwd=tmp_path).stdout)["warnings"]
    assert warnings[0] == "This predicts without data: the rows are not prepared yet."
