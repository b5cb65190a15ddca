"""How a command ends when something was not foreseen: one line, an exit code that is no verdict, and no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = 'name = "x"\n[[source]]\npath = "a"\n'
PROGRAM = """
import sys
import budwood.recipe

def fail(path):
    raise {error}

budwood.recipe.load_recipe = fail
sys.argv = ["budwood", "recipe", "r.toml"{more}]
from budwood.cli.main import main
main()
"""


def ending(error: str, more: str = "") -> subprocess.CompletedProcess[str]:
    """Run `budwood recipe r.toml` where reading the recipe fails as told."""
    program = PROGRAM.format(error=error, more=more)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        ("KeyError('rank')", 4, "unexpected KeyError: 'rank'; repeat with --debug and report it.\n"),
        ("ValueError('one\\ntwo')", 4, "unexpected ValueError: one two; repeat with --debug and report it.\n"),
        ("ZeroDivisionError", 4, "unexpected ZeroDivisionError; repeat with --debug and report it.\n"),
        ("MemoryError", 4, "out of memory; repeat with --debug and report it.\n"),
        ("OSError(28, 'No space left on device', 'a/b')", 4, "No space left on device: 'a/b'; repeat with --debug"),
        ("OSError(5, 'Input/output error')", 4, "Input/output error; repeat with --debug"),
        ("KeyboardInterrupt", 130, "interrupted; run the same command again to go on from there.\n"),
        ("BrokenPipeError(32, 'Broken pipe')", 4, "Broken pipe; repeat with --debug"),
        ("budwood.errors.RecipeError('a \\x1b[2Jkey \\ud800')", 3, "a \\x1b[2Jkey \\ud800\n"),
    ],
)
def test_what_was_not_foreseen_is_one_line(error: str, code: int, said: str) -> None:
    done = ending(error)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(f"budwood: {said}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("error", "code"), [("KeyError('rank')", 4), ("budwood.errors.RecipeError('no')", 3)])
def test_debug_shows_the_traceback_and_keeps_the_code(error: str, code: int) -> None:
    done = ending(error, ', "--debug"')
    assert "Traceback" in done.stderr
    assert done.returncode == code


@pytest.mark.parametrize("with_errors", [False, True])
@pytest.mark.parametrize(("arguments", "code"), [(("recipe", "r.toml", "--show"), 0), (("recipe", "no.toml"), 3)])
def test_a_reader_that_goes_is_no_failure(tmp_path: Path, arguments: tuple[str, ...], code: int, with_errors: bool) -> None:
    (tmp_path / "r.toml").write_text(RECIPE)
    read, write = os.pipe()
    os.close(read)
    errors = write if with_errors else subprocess.PIPE
    command = [sys.executable, "-m", "budwood", *arguments]
    done = subprocess.run(command, cwd=tmp_path, stdout=write, stderr=errors, check=False)
    os.close(write)
    assert done.returncode == code
    assert not done.stderr or code


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(RECIPE)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "budwood", "recipe", "r.toml"],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 4
    assert done.stderr == "budwood: No space left on device; repeat with --debug and report it.\n"


def test_help_tells_of_debug(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "budwood", "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "--debug" in done.stdout
