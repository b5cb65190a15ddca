"""`budwood verify`: hash everything again and check the chain."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from budwood.cli.display import display
from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, WhoOption, acting, open_here
from budwood.cli.output import for_terminal, print_json
from budwood.errors import StoreError

if TYPE_CHECKING:
    from budwood.store import Head


def register(app: typer.Typer) -> None:
    @app.command(name="verify", short_help="Hash everything again and check the history.", epilog="Example: budwood verify")
    def verify(
        store: StoreOption = DEFAULT_STORE,
        accept: Annotated[
            str, typer.Option("--accept-history", help="go on after damage to the history, for this reason; kept on record")
        ] = "",
        head: Annotated[
            str, typer.Option("--head", help="what `budwood history --head` printed earlier; it must still be there")
        ] = "",
        who: WhoOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Hash every object again, check parents, aliases and the history's chain. Exit code 1 when anything is wrong."""
        opened, noted = open_here(store), _noted(head)
        if accept:
            opened.accept_history(who=acting(who), reason=accept)
        with display() as report:
            found = opened.verify(report, noted=noted)
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


def _noted(text: str) -> "Head | None":
    from budwood.store import Head, check_digest

    if not text:
        return None
    number, _, digest = text.strip().partition("-")
    if not number.isdigit():
        raise StoreError(
            f"{text!r} is no end of a history.",
            where="--head",
            mend="Give what `budwood history --head` printed: 17-9d02…",
        )
    return Head(int(number), check_digest(digest))
