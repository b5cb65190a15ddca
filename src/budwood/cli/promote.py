"""`budwood promote`: point an alias at a release."""

from typing import TYPE_CHECKING, Annotated

import typer

from budwood.cli.options import (
    DEFAULT_STORE,
    JsonOption,
    ReasonOption,
    StoreOption,
    WaitOption,
    WhoOption,
    WithoutApprovalsOption,
    acting,
    open_here,
)
from budwood.cli.output import print_json, print_next
from budwood.identity import short

if TYPE_CHECKING:
    from budwood.release.promote import Moved


def register(app: typer.Typer) -> None:
    @app.command(
        name="promote",
        short_help="Point an alias at a release that passed its gate.",
        epilog="Example: budwood promote support@2 --expect 41c9f00d1234 --wait 30",
    )
    def promote(
        release: Annotated[str, typer.Argument(help="NAME@VERSION or NAME@DIGEST", show_default=False)],
        alias: Annotated[str, typer.Option("--alias", help="alias to move")] = "production",
        expect: Annotated[str, typer.Option("--expect", help="move only if the alias is still here")] = "",
        override: Annotated[str, typer.Option("--override", help="go against the verdict, for this reason")] = "",
        without_approvals: WithoutApprovalsOption = "",
        wait: WaitOption = 0.0,
        store: StoreOption = DEFAULT_STORE,
        who: WhoOption = "",
        reason: ReasonOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Point an alias at a release whose verdict is PROMOTE; running servers follow without a restart."""
        from budwood.release.promote import promote as move

        moved = move(
            open_here(store),
            release,
            alias,
            expect=expect or None,
            who=acting(who),
            reason=reason,
            override=override or None,
            without_approvals=without_approvals or None,
            wait_s=wait,
        )
        if as_json:
            print_json(moved.as_dict())
            raise typer.Exit(moved_code(moved))
        before = short(moved.before) if moved.before else "nothing"
        typer.echo(
            f"{moved.name}@{moved.alias} now points to version {moved.version} ({short(moved.digest)}); before: {before}."
        )
        print_servers(moved)
        print_next(
            f"budwood rollback {moved.name} --alias {moved.alias} --store {store}",
            f"budwood history {moved.name} --store {store}",
        )
        raise typer.Exit(moved_code(moved))


def print_servers(moved: "Moved") -> None:
    """One line a server, and what it means when not all have followed."""
    for server in moved.servers:
        typer.echo(f"  {server}")
    if not moved.followed:
        typer.echo("Not every server has followed: the alias has moved, and they keep what they have until they can.")


def moved_code(moved: "Moved") -> int:
    """Exit code of a move: 0 when every server on record follows, or nobody looked; else 1."""
    return 0 if moved.followed else 1
