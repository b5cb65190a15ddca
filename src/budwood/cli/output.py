"""What commands print: one JSON object, or sentences and tables that fit 80 columns."""

import json
import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import typer

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def print_json(value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print a value as JSON; what is not safe to show is spelled as JSON spells it."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    typer.echo(_UNSAFE.sub(lambda found: json.dumps(found[0])[1:-1], text))


def for_terminal(text: str) -> str:
    """Make a stranger's text safe to show: control characters, which steer a terminal, and half characters are spelled out."""
    return _UNSAFE.sub(lambda found: repr(found[0])[1:-1], text)


def print_indented(text: str) -> None:
    """Print a line under a title; on a terminal it is broken at its width, in a pipe it stays one line."""
    width = shutil.get_terminal_size(fallback=(0, 0)).columns
    if width > 40 and len(text) + 2 > width:
        text = textwrap.fill(text, width - 2, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    typer.echo(textwrap.indent(text, "  "))


def print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values in two aligned columns."""
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        typer.echo(f"  {name:<{width}}  {value}")


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose columns are as wide as their longest cell; the last column is never padded."""
    widths = [max(len(head[i]), *(len(row[i]) for row in rows)) if rows else len(head[i]) for i in range(len(head))]
    for row in (head, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        typer.echo("  ".join(["", *cells, row[-1]]).rstrip())


def print_next(*commands: str) -> None:
    """End with the next sensible commands."""
    typer.echo("\nNext:")
    for command in commands:
        typer.echo(f"  {command}")
