"""`budwood release`: make releases, look at them, carry them elsewhere; a module a command.

`budwood release support.toml` is short for `budwood release make support.toml`: making one is what a release is for.
"""

import typer
from typer.core import TyperGroup

from budwood.cli.release import diff, export, make, show, sign, take_in
from budwood.cli.release.make import next_commands, print_released, verdict_code

__all__ = ["next_commands", "print_released", "register", "verdict_code"]


class _MakesByDefault(TyperGroup):
    """A group whose first word may be left out where it is `make`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # click's own Context
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["make", *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Put the group and its commands into the tree."""
    group = typer.Typer(
        name="release",
        cls=_MakesByDefault,
        help="Make the release and let the gate judge it: `budwood release RECIPE`. Look at releases, compare and carry them.",
        short_help="Make, judge, show, compare, export and import releases.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    for module in (make, show, diff, export, take_in, sign):
        module.register(group)
    app.add_typer(group)
