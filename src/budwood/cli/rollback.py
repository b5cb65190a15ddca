"""`budwood rollback`: point an alias back."""

from typing import Annotated

import typer

from budwood.cli.options import DEFAULT_STORE, JsonOption, ReasonOption, StoreOption, WaitOption, WhoOption, acting, open_here
from budwood.cli.output import print_json, print_next
from budwood.cli.promote import moved_code, print_servers
from budwood.identity import short


def register(app: typer.Typer) -> None:
    @app.command(
        name="rollback",
        short_help="Point an alias back to what was live before.",
        epilog='Example: budwood rollback support --reason "refund answers too long"',
    )
    def rollback(
        name: Annotated[str, typer.Argument(help="name of the releases", show_default=False)],
        alias: Annotated[str, typer.Option("--alias", help="alias to move back")] = "production",
        to: Annotated[str, typer.Option("--to", help="a release that was live; default: the one before")] = "",
        wait: WaitOption = 0.0,
        store: StoreOption = DEFAULT_STORE,
        who: WhoOption = "",
        reason: ReasonOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Point an alias back to the release that was live before; servers keep that one warm."""
        from budwood.release.promote import rollback as move

        moved = move(open_here(store), name, alias, to=to or None, who=acting(who), reason=reason, wait_s=wait)
        if as_json:
            print_json(moved.as_dict())
            raise typer.Exit(moved_code(moved))
        typer.echo(f"{moved.name}@{moved.alias} is back at version {moved.version} ({short(moved.digest)}).")
        print_servers(moved)
        print_next(f"budwood history {moved.name} --store {store}")
        raise typer.Exit(moved_code(moved))
