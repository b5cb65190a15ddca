"""`budwood data`: what one can ask of a snapshot, and take out of it; a module a command."""

import typer

from budwood.cli.data import diff, forget, list_snapshots, report, score, select, why


def register(app: typer.Typer) -> None:
    """Put the group and its commands into the tree."""
    group = typer.Typer(
        name="data",
        help="Ask what became of rows, compare snapshots, choose rows, take rows out.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    for module in (
        list_snapshots,
        why,
        diff,
        report,
        score,
        select,
        forget,
    ):
        module.register(group)
    app.add_typer(group)
