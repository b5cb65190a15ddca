"""`budwood delete`: take one release away for good."""

from typing import Annotated

import typer

from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, WhoOption, acting, on_store, open_here
from budwood.cli.output import print_json, print_next
from budwood.identity import short


def register(app: typer.Typer) -> None:
    @app.command(
        name="delete",
        short_help="Take a release away for good; what is live, warm or referenced stays.",
        epilog='Example: budwood delete support@3 --reason "trained on the wrong export"',
    )
    def delete(
        release: Annotated[str, typer.Argument(help="NAME@VERSION or NAME@DIGEST", show_default=False)],
        reason: Annotated[str, typer.Option("--reason", help="why; kept in the history", show_default=False)],
        store: StoreOption = DEFAULT_STORE,
        who: WhoOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Take a release away for good. Its number stays taken, and it can't be promoted or rolled back to any more.

        Refused for what an alias points to, what a server answers from, what an alias would roll back to, and what these were
        made from.
        """
        opened = open_here(store)
        row = opened.find_release(release)
        opened.delete(row.name, row.digest, who=acting(who), reason=reason)
        if as_json:
            print_json({"name": row.name, "version": row.version, "digest": row.digest, "deleted": True})
            return
        typer.echo(f"Deleted {row.name}@{row.version} ({short(row.digest)}). What only it was made from goes with the next gc.")
        print_next(f"budwood gc --dry-run{on_store(store)}")
