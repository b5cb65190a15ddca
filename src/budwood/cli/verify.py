"""`budwood verify`: hash everything again and check the chain."""

from dataclasses import asdict
from typing import Annotated

import typer

from budwood.cli.display import display
from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, WhoOption, acting, open_here
from budwood.cli.output import for_terminal, print_json


def register(app: typer.Typer) -> None:
    @app.command(name="verify", short_help="Hash everything again and check the history.", epilog="Example: budwood verify")
    def verify(
        store: StoreOption = DEFAULT_STORE,
        accept: Annotated[
            str, typer.Option("--accept-history", help="go on after damage to the history, for this reason; kept on record")
        ] = "",
        who: WhoOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Hash every object again, check parents, aliases and the history's chain. Exit code 1 when anything is wrong."""
        opened = open_here(store)
        if accept:
            opened.accept_history(who=acting(who), reason=accept)
        with display() as report:
            found = opened.verify(report)
        if as_json:
            counts = {"ok": found.ok, "objects": found.objects, "events": found.events}
            lists = {"problems": list(found.problems), "accepted": list(found.accepted)}
            print_json({**counts, **lists, "removed": [asdict(stone) for stone in found.forgotten]})
        else:
            for problem in found.problems:
                typer.echo(f"  {problem}")
            for fault in found.accepted:
                typer.echo(f"  accepted: {fault}")
            for stone in found.forgotten:
                typer.echo(f"  removed: {for_terminal(stone.line())}")
            state = (
                "everything is whole"
                if found.ok
                else f"{len(found.problems):,} problem{'s' if len(found.problems) > 1 else ''}"
            )
            typer.echo(f"{found.objects:,} objects and {found.events:,} events checked: {state}.")
        raise typer.Exit(0 if found.ok else 1)
