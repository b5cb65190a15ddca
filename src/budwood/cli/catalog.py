"""`budwood catalog`: where names, aliases and history are kept, and moving them to another database."""

from typing import Annotated

import typer

from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, open_here
from budwood.cli.output import print_json
from budwood.errors import StoreError


def register(app: typer.Typer) -> None:
    @app.command(
        name="catalog",
        short_help="Show where names and history are kept, or move them to PostgreSQL.",
        epilog="Example: budwood catalog postgresql://budwood@db.internal/support\n\n"
        "A store that is new takes its database from BUDWOOD_CATALOG. Either way the store remembers it.",
    )
    def catalog(
        url: Annotated[str, typer.Argument(help="database to move to; a password comes from PGPASSWORD or ~/.pgpass")] = "",
        local: Annotated[bool, typer.Option("--local", help="move back into the store's own folder (SQLite)")] = False,
        store: StoreOption = DEFAULT_STORE,
        as_json: JsonOption = False,
    ) -> None:
        """Show where the catalog is: SQLite in the store's folder, or PostgreSQL. Or move it while nobody is at work."""
        opened = open_here(store)
        if url and local:
            raise StoreError("A URL and --local are two places.", mend="Give one of them.")
        moved = opened.move_catalog(url) if url or local else None
        place = opened.catalog_place()
        if as_json:
            print_json({"catalog": place, "moved_rows": moved})
            return
        if moved is not None:
            typer.echo(f"Moved {moved:,} rows; every command on this store uses the new catalog from now on.")
        typer.echo(f"Catalog: {place}")
