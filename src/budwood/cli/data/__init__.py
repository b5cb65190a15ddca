"""`budwood data`: what one can ask of a snapshot, and take out of it; a module a command."""

import typer

from budwood.cli.data import score, select


def register(app: typer.Typer) -> None:
    data = typer.Typer(
        name="data",
        help="Ask what became of rows, compare snapshots, take rows out.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    for module in (score, select):
        module.register(data)
    app.add_typer(data)
