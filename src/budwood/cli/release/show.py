"""`budwood release show`: all that a release binds."""

from typing import Annotated

import typer

from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, on_store, open_here
from budwood.cli.output import for_terminal, print_json, print_next, print_pairs

RefArgument = Annotated[str, typer.Argument(help="release: name, name@alias, name@number, or a digest's first digits")]


def register(app: typer.Typer) -> None:
    @app.command(
        name="show",
        short_help="Show all that a release binds.",
        epilog="Example: budwood release show support@production",
    )
    def show(ref: RefArgument, store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
        """Show base, adapter, template, decoding, evidence, verdict and golden probes of a release."""
        from budwood.release.lineage import find_object
        from budwood.release.show import show as look

        opened = open_here(store)
        found = look(opened, find_object(opened, ref))
        if as_json:
            print_json(found.as_dict())
            return
        for place, (title, pairs) in enumerate(found.groups()):
            typer.echo(f"\n{title}" if place else title)
            print_pairs([(name, for_terminal(value)) for name, value in pairs])
        print_next(f"budwood lineage {ref}{on_store(store)}")
