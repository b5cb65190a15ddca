"""What commands print: one JSON object, or sentences and tables that fit 80 columns."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import typer


def print_json(value: Mapping[str, Any] | Sequence[Any]) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


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
