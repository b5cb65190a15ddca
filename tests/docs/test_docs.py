"""The generated parts of the documentation agree with the code."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def test_tree_and_help_pages_are_up_to_date() -> None:
    program = REPOSITORY / "tools" / "write_docs.py"
    done = subprocess.run([sys.executable, str(program), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(REPOSITORY))
        for path in sorted((REPOSITORY / "src" / "budwood").rglob("*.py"))
        if not path.read_text("utf-8").lstrip().startswith('"""')
    ]
    assert not silent
