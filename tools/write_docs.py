"""Writes the generated documentation: the annotated tree in docs/architecture.md, and docs/commands.md.

    python tools/write_docs.py           # write
    python tools/write_docs.py --check   # exit code 1 when something is out of date

The phrase beside a file is the first sentence of its own docstring, so the tree cannot tell what the code does not.
"""

import argparse
import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from budwood.cli.main import build_app

ROOT = Path(__file__).resolve().parent.parent
START, END = "<!-- tree: start -->", "<!-- tree: end -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 when out of date")
    check = parser.parse_args().check
    stale = []
    for path, text in ((ROOT / "docs/architecture.md", architecture()), (ROOT / "docs/commands.md", commands())):
        if not path.exists() or path.read_text("utf-8") != text:
            stale.append(str(path.relative_to(ROOT)))
            if not check:
                path.write_text(text, "utf-8")
    if stale and check:
        sys.exit(f"Out of date: {', '.join(stale)}. Run `make docs`.")
    print("written: " + ", ".join(stale) if stale else "up to date")


def architecture() -> str:
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n```\n" + "\n".join(tree()) + f"\n```\n{END}{after}"


def tree() -> Iterator[str]:
    """Walk src/budwood: rooms with what they are for, modules with their first sentence."""
    top = ROOT / "src" / "budwood"
    yield "src/budwood/"
    yield from _walk(top, depth=1)


def _walk(folder: Path, depth: int) -> Iterator[str]:
    pad = "  " * depth
    for path in sorted(folder.iterdir(), key=lambda entry: (entry.is_dir(), entry.name)):
        if path.suffix == ".py" and path.name != "__init__.py":
            yield _line(f"{pad}{path.name}", first_sentence(path))
        elif path.is_dir() and (path / "__init__.py").exists():
            yield _line(f"{pad}{path.name}/", first_sentence(path / "__init__.py"))
            yield from _walk(path, depth + 1)


def _line(name: str, phrase: str) -> str:
    return f"{name:<34}{phrase}".rstrip()


def first_sentence(path: Path) -> str:
    doc = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    paragraph = " ".join(doc.partition("\n\n")[0].split())
    end = paragraph.find(". ")
    return (paragraph if end < 0 else paragraph[:end]).rstrip(".")


def commands() -> str:
    """Collect the help page of every command, 80 columns wide."""
    parts = ["# Commands\n\nWritten by `make docs` from the commands themselves.\n"]
    for words in _words(typer.main.get_command(build_app())):
        title = " ".join(("budwood", *words))
        parts.append(f"## {title}\n\n```\n{help_page(*words)}\n```\n")
    return "\n".join(parts)


def _words(command: Any, *words: str) -> Iterator[tuple[str, ...]]:
    """Words that call a command and all under it, in the order of its help page."""
    yield words
    for name, below in getattr(command, "commands", {}).items():
        yield from _words(below, *words, name)


def help_page(*words: str) -> str:
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb", "BUDWOOD_STORE": ""}
    del environment["BUDWOOD_STORE"]
    command = [sys.executable, "-m", "budwood", *words, "--help"]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return "\n".join(line.rstrip() for line in shown.strip().splitlines())


if __name__ == "__main__":
    main()
