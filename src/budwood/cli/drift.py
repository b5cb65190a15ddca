"""`budwood drift`: does production still ask what the live release was judged on?"""

from pathlib import Path
from typing import Annotated

import typer

from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, WhoOption, acting, on_store, open_here
from budwood.cli.output import for_terminal, print_indented, print_json, print_next

CODES = {"fresh": 0, "stale": 1, "untestable": 2}


def register(app: typer.Typer) -> None:
    @app.command(
        name="drift",
        short_help="Compare production's requests with the held-out set of the live release.",
        epilog="Example: budwood drift support --recipe support.toml",
    )
    def drift(
        name: Annotated[str, typer.Argument(help="name of the releases", show_default=False)],
        alias: Annotated[str, typer.Option("--alias", help="alias whose requests are meant")] = "production",
        days: Annotated[int, typer.Option("--days", min=1, help="how many days back")] = 7,
        margin: Annotated[
            float | None,
            typer.Option("--margin", min=0, max=0.5, help="how far the AUC may lie above 0.5; default: [serve] drift_margin"),
        ] = None,
        recipe: Annotated[Path | None, typer.Option("--recipe", help="take [serve] from this recipe")] = None,
        store: StoreOption = DEFAULT_STORE,
        who: WhoOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Compare the requests that servers have sampled ([serve] sample) with what the live release was judged on.

        Where they differ by more than the margin, the verdict is marked stale, in `status`, the history and the servers'
        metrics. Exit code: 0 it stands, 1 stale, 2 cannot be told.
        """
        from budwood.data.drift import measure_drift, record_drift
        from budwood.recipe import ServeSection, load_recipe

        settings = load_recipe(recipe).serve if recipe else ServeSection()
        opened = open_here(store)
        wanted = settings.drift_margin if margin is None else margin
        found = measure_drift(opened, name, alias, days=days, margin=wanted)
        changed = record_drift(opened, found, who=acting(who))
        if as_json:
            print_json({**found.as_dict(), "changed": changed})
            raise typer.Exit(CODES[found.finding])
        held, asked = found.comparison.sizes
        typer.echo(
            f"{name}@{alias}, version {found.live.version}: {held:,} held-out prompts, {asked:,} requests of {days} days."
        )
        print_indented(for_terminal(found.sentence))
        for term in found.comparison.terms[1][:5]:
            print_indented(f"more in production: {for_terminal(term.text)} ({term.first:.1%} of held-out, {term.second:.1%})")
        if found.finding == "untestable":
            print_next(f"budwood serve --recipe RECIPE{on_store(store)}    # with [serve] sample = 0.1")
        else:
            print_next(f"budwood status {name}{on_store(store)}")
        raise typer.Exit(CODES[found.finding])
