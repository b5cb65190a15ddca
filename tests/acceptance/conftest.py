"""A small job of the support-triage example, and the commands as a user runs them."""

import subprocess
import sys
from pathlib import Path

import pytest
from acceptance_tools import Run, environment

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "support-triage"


@pytest.fixture(scope="session")
def small_job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few hundred tickets and a recipe that trains on them in seconds."""
    folder = tmp_path_factory.mktemp("job")
    subprocess.run(
        [
            sys.executable,
            str(EXAMPLE / "generate.py"),
            "--seed",
            "3",
            "--rows",
            "640",
            "--newer",
            "80",
            "--out",
            str(folder / "data"),
        ],
        check=True,
        capture_output=True,
    )
    for name in ("recipe.toml", "recipe-v2.toml"):
        text = (EXAMPLE / name).read_text("utf-8")
        assert "min_quality = " in text
        lines = [
            line for line in text.splitlines() if not line.startswith(("min_quality", "epochs", "tokens_per", "max_cases"))
        ]
        text = "\n".join(lines).replace("[train]\n", "[train]\nepochs = 1\ntokens_per_step = 2048\ncheckpoint_every = 3\n")
        text = text.replace("[evaluate]\n", "[evaluate]\nmax_cases = 40\n", 1)
        (folder / name).write_text(text, "utf-8")
    (folder / "answer.schema.json").write_bytes((EXAMPLE / "answer.schema.json").read_bytes())
    return folder


@pytest.fixture(scope="session")
def budwood() -> Run:
    """Run a command to its end; standard output and error are kept."""

    def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "budwood", *map(str, arguments)]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=environment())

    return run
