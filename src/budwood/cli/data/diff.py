"""`budwood data diff`: what has changed from one snapshot to another."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from budwood.cli.display import display
from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, on_store, open_here
from budwood.cli.output import for_terminal, print_indented, print_json, print_next, print_table
from budwood.identity import short

if TYPE_CHECKING:
    from budwood.data.declared import Change
    from budwood.data.diff import Diff, Kind

LONGEST = 48
"""Characters of a value that are shown."""


def register(app: typer.Typer) -> None:
    @app.command(
        name="diff",
        short_help="Compare two snapshots.",
        epilog="Example: budwood data diff 27560a4b support --rows 3",
    )
    def diff(
        before: Annotated[str, typer.Argument(help="a snapshot: its name (the newest), first digits, or a release of it")],
        after: Annotated[str, typer.Argument(help="another snapshot")],
        rows: Annotated[int, typer.Option("--rows", min=0, help="rows of each kind to name")] = 0,
        store: StoreOption = DEFAULT_STORE,
        as_json: JsonOption = False,
    ) -> None:
        """Say which rows came, went, changed, moved between splits or are now rejected, by source and rule; and why.

        A row is the same by its id (same bytes of its file, same line), else by its text, else by its prompt in that file.
        """
        from budwood.data.diff import compare
        from budwood.data.find import find_snapshot

        opened = open_here(store)
        ends = find_snapshot(opened, before), find_snapshot(opened, after)
        with display() as report:
            found = compare(opened, *ends, rows=rows, report=report)
        if as_json:
            print_json(found.as_dict())
        else:
            _print(found, on_store(store))


def _print(diff: "Diff", rest: str) -> None:
    typer.echo(f"Snapshot {short(diff.before)} → {short(diff.after)}")
    if diff.before == diff.after:
        typer.echo("They are one and the same.")
        return
    typer.echo("")
    counts = [(one.what, f"{one.before or 0:,}", f"{one.after or 0:,}", _signed(one)) for one in diff.declared.counts]
    print_table(("rows", "before", "after", ""), _aligned(counts, 1, 2))
    if diff.same_rows:
        typer.echo("\nThey hold the same rows, in the same splits.")
    _print_kinds(diff.kinds)
    _print_changes("Sources:", diff.declared.sources)
    _print_changes("Rules:", diff.declared.rules)
    _print_changes("Settings:", diff.declared.settings)
    _print_rows(diff.kinds)
    first = next((row for name, kind in diff.kinds.items() if name != "unchanged" for row in kind.rows), None)
    if first is None:
        print_next(f"budwood data diff {short(diff.before)} {short(diff.after)} --rows 5{rest}")
    else:
        side = "after" if "after" in first else "before"
        print_next(f"budwood data why {first[side]['row_id']} {short(getattr(diff, side))}{rest}")


def _print_kinds(kinds: "Mapping[str, Kind]") -> None:
    """Print two tables more where rows differ: by source, and by rule."""
    from budwood.data.diff import KINDS

    there = {name: kind for name, kind in kinds.items() if kind.count}
    typer.echo("")
    kinds_there = [(f"{kind.count:,}", KINDS[name], _most(kind.by_place)) for name, kind in there.items()]
    print_table(("rows", "that are", "where"), _aligned(kinds_there, 0))
    for title, key in (("source", "by_source"), ("rule", "by_rule")):
        cells = [
            (for_terminal(what), f"{count:,}", KINDS[name])
            for name, kind in there.items()
            if name != "unchanged"
            for what, count in getattr(kind, key).items()
        ]
        if cells:
            typer.echo("")
            print_table((title, "rows", "that are"), _aligned(sorted(cells, key=lambda cell: cell[0]), 1))


def _print_changes(title: str, changes: "Sequence[Change]") -> None:
    if not changes:
        return
    typer.echo(f"\n{title}")
    for one in changes:
        print_indented(for_terminal(f"{one.what}: {_value(one.before)} → {_value(one.after)}"))


def _print_rows(kinds: "Mapping[str, Kind]") -> None:
    from budwood.data.diff import KINDS

    for name, kind in kinds.items():
        if not kind.rows:
            continue
        typer.echo(f"\n{KINDS[name].capitalize()}, {len(kind.rows)} of {kind.count:,}:")
        print_table(("row", "from", "place"), [_row(row) for row in kind.rows])


def _row(row: Mapping[str, Mapping[str, Any]]) -> tuple[str, str, str]:
    last = row.get("after") or row["before"]
    places = dict.fromkeys(_place(side) for side in row.values())
    return last["row_id"], for_terminal(f"{last['file']} line {last['line']:,}"), " → ".join(places)


def _place(side: Mapping[str, Any]) -> str:
    return f"rejected by {side['rule']}" if "rule" in side else str(side["place"])


def _most(counts: Mapping[str, int]) -> str:
    """Count rows by place; that they went to or came from the rejected ones is said already."""
    places = {what.removesuffix(" → rejected").removeprefix("rejected → "): count for what, count in counts.items()}
    return ", ".join(f"{count:,} {what}" for what, count in places.items())


def _aligned(rows: Sequence[tuple[str, ...]], *columns: int) -> list[tuple[str, ...]]:
    """Set the numbers of some columns flush right."""
    widths = {column: max(len(row[column]) for row in rows) for column in columns}
    return [tuple(cell.rjust(widths.get(column, 0)) for column, cell in enumerate(row)) for row in rows]


def _signed(change: "Change") -> str:
    difference = (change.after or 0) - (change.before or 0)
    return f"{difference:+,}" if difference else ""


def _value(value: Any) -> str:
    """Show a JSON value in a line: a digest by its first digits, what is not there as "–"."""
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(held)}" for key, held in value.items()) or "no options"
    if isinstance(value, list):
        return ", ".join(map(_value, value)) or "none"
    if isinstance(value, str):
        digest = len(value) == 64 and set(value) <= set("0123456789abcdef")
        return short(value) if digest else (value if len(value) <= LONGEST else value[:LONGEST] + "…") or '""'
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
