"""The command line as a user meets it: quick to start, plain in its refusals, honest in its exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from budwood.store import open_store

HEAVY = ("torch", "transformers", "numpy", "polars", "sqlalchemy", "fastapi", "scipy", "ray")


def budwood(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "budwood", *arguments], cwd=cwd, capture_output=True, text=True, env=environment, check=False
    )


def test_help_reaches_no_heavy_library(tmp_path: Path) -> None:
    program = (
        "import sys; sys.argv = ['budwood', '--help']\n"
        "from budwood.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    code = stop.code\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(f'loaded: {loaded}' if loaded or code else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("run", "plan", "prepare", "train", "evaluate", "release", "promote", "rollback", "serve", "verify"):
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "absent.toml"), "There is no recipe 'absent.toml'."),
        (("recipe", "."), "is a folder, not a recipe"),
        (("promote", "support@1"), "support"),
        (("rollback", "support"), "support"),
        (("lineage", "0123456789ab"), "0123456789ab"),
        (("serve", "--port", "0"), "has no release"),
        (("serve", "--port", "99999"), "Invalid value for '--port'"),
        (("history", "--at", "soon"), "'soon' is no moment"),
        (("ask", "support", "hi", "--url", "http://127.0.0.1:9"), "No server answers at http://127.0.0.1:9"),
        (("recipe", "bad.toml"), 'Unknown key "train.rnk". Nearest known key: rank.'),
        (("promote",), "Missing argument"),
        (("fly",), "No such command"),
    ],
)
def test_mistakes_are_told_without_a_traceback(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "bad.toml").write_text('name = "x"\n[[source]]\npath = "a"\n[train]\nrnk = 1\n')
    open_store(tmp_path / ".budwood").close()
    done = budwood(*arguments, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = budwood("run", "absent.toml", "--debug", cwd=tmp_path)
    assert "Traceback" in done.stderr


def test_a_recipe_mistake_makes_no_store(tmp_path: Path) -> None:
    budwood("run", "absent.toml", cwd=tmp_path)
    assert not (tmp_path / ".budwood").exists()


def test_empty_store_verifies_and_says_what_to_do_next(tmp_path: Path) -> None:
    open_store(tmp_path / ".budwood").close()
    verified = budwood("verify", cwd=tmp_path)
    assert (verified.returncode, verified.stdout) == (0, "0 objects and 0 events checked: everything is whole.\n")
    assert "budwood run RECIPE.toml" in budwood("status", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("history",),
        ("verify",),
        ("lineage", "support"),
        ("promote", "support@1"),
        ("rollback", "support"),
        ("serve", "--port", "0"),
    ],
)
def test_a_command_that_reads_makes_no_store(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = budwood(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        "budwood: There is no store at '.budwood'. In --store.\n    Check the path, or make one with `budwood run RECIPE`.\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [("status",), ("plan", "r.toml")])
def test_a_store_that_is_a_file_is_said(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "r.toml").write_text('name = "x"\n[[source]]\npath = "a"\n')
    (tmp_path / ".budwood").write_text("")
    done = budwood(*arguments, cwd=tmp_path)
    assert done.returncode == 3
    assert "'.budwood' is no folder, so no store. In --store.\n    Move it away, or name another." in done.stderr


def test_show_lists_every_value_with_its_meaning(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('name = "x"\n[[source]]\npath = "a"\n[train]\nrank = 4\n')
    shown = budwood("recipe", "r.toml", "--show", cwd=tmp_path).stdout
    assert "rank = 4\n    # inner width of the update\n" in shown
    assert "alpha = 32.0\n    # numerator of the scale alpha / rank (default)\n" in shown
