"""BANKING77 as its example ships: real queries, the published split, trained and judged by one command."""

import json
import shutil
from pathlib import Path

import pytest
from acceptance_tools import Run

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "banking77"


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_recipe_learns_real_intents(public_data: Path, budwood: Run, tmp_path: Path) -> None:
    for name in ("train.csv", "test.csv"):
        shutil.copy(public_data / "banking77" / name, tmp_path / name)
    shutil.copy(EXAMPLE / "recipe.toml", tmp_path / "recipe.toml")
    done = budwood("run", "recipe.toml", "--no-promote", "--json", cwd=tmp_path)
    assert done.returncode in (0, 2), done.stderr
    judged = json.loads(budwood("evaluate", "recipe.toml", "--json", cwd=tmp_path).stdout)
    compared = judged["comparison"]
    listed = [len(compared[kind]) for kind in ("fixed", "regressed", "still_failing", "unknown")]
    assert sum(listed) + compared["unchanged"] == 3080
    assert judged["metrics"]["exact"] >= 0.84
    assert judged["baseline_metrics"]["exact"] <= 0.05
