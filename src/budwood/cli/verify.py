"""`budwood verify`: hash everything again and check the chain."""

import typer

from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, open_here
from budwood.cli.output import print_json


def register(app: typer.Typer) -> None:
    @app.command(name="verify", epilog="Example: budwood verify")
    def verify(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
        """Hash every object again, check parents, aliases and the history's chain. Exit code 1 when anything is wrong."""
        found = open_here(store).verify()
        if as_json:
            print_json({"ok": found.ok, "objects": found.objects, "events": found.events, "problems": list(found.problems)})
        else:
            for problem in found.problems:
                typer.echo(f"  {problem}")
            state = "everything is whole" if found.ok else f"{len(found.problems)} problems"
            typer.echo(f"{found.objects:,} objects and {found.events:,} events checked: {state}.")
        raise typer.Exit(0 if found.ok else 1)
