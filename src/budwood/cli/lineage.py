"""`budwood lineage`: from an answer, a release or any object back to the rows that it was made from."""

from typing import Annotated

import typer

from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, open_here
from budwood.cli.output import for_terminal, print_json
from budwood.identity import short
from budwood.tool_calls import shown


def register(app: typer.Typer) -> None:
    @app.command(
        name="lineage",
        short_help="Go back from an answer to its training rows.",
        epilog="Example: budwood lineage support@production --rows 5",
    )
    def lineage(
        ref: Annotated[str, typer.Argument(help="release, or a digest's first digits: an answer's system_fingerprint")],
        rows: Annotated[int, typer.Option("--rows", min=0, help="training rows to show")] = 3,
        row: Annotated[str, typer.Option("--row", help="show the row whose id begins so")] = "",
        store: StoreOption = DEFAULT_STORE,
        as_json: JsonOption = False,
    ) -> None:
        """Print the way back: release, report and run, adapter, base, snapshot, and training rows with file and line."""
        from budwood.release.lineage import find_object, training_rows
        from budwood.release.lineage import lineage as walk

        opened = open_here(store)
        found = walk(opened, find_object(opened, ref))
        data = found.data
        current = opened.current(data.digest) if data else None
        readable = current is not None and opened.tombstone_of(current) is None
        origins = training_rows(opened, current, limit=rows, row_id=row or None) if current and readable else []
        if as_json:
            print_json({**found.as_dict(), "rows": [origin.as_dict() for origin in origins]})
            return
        for line in found.lines():
            typer.echo(line)
        if data is not None and not readable:
            typer.echo(f"\nIts rows are gone: snapshot {short(data.digest)} was removed: {data.forgotten}")
        elif data is not None and current != data.digest:
            typer.echo(
                f"\nRows were removed from its snapshot: {data.forgotten}. Those that are left, in {short(current or '')}:"
            )
        for origin in origins:
            typer.echo(f"\nRow {short(origin.row_id)} ({origin.split}) from {origin.source} line {origin.line}")
            for message in origin.messages:
                said = shown(message)
                typer.echo(f"  {message['role']}: {for_terminal(said if len(said) <= 300 else said[:300] + '…')}")
            if origin.touched:
                typer.echo(f"  touched by: {', '.join(origin.touched)}")
