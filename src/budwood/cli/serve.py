"""`budwood serve`: answer OpenAI's API with what the aliases point to."""

from pathlib import Path
from typing import Annotated

import typer

from budwood.cli.display import display
from budwood.cli.options import DEFAULT_STORE, StoreOption, open_here
from budwood.errors import ServeError


def register(app: typer.Typer) -> None:
    @app.command(name="serve", epilog="Example: budwood serve --port 8321")
    def serve(
        store: StoreOption = DEFAULT_STORE,
        recipe: Annotated[Path | None, typer.Option("--recipe", help="take [serve] from this recipe")] = None,
        host: Annotated[str | None, typer.Option("--host", help="loopback address to bind")] = None,
        port: Annotated[int | None, typer.Option("--port", help="0: any free port, printed at start")] = None,
    ) -> None:
        """Serve every alias of the store on one OpenAI-compatible endpoint; it follows promotions and rollbacks as it runs."""
        from budwood.recipe import ServeSection, load_recipe
        from budwood.serve.run import serve as run

        settings = load_recipe(recipe).serve if recipe else ServeSection()
        given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
        settings = ServeSection.model_validate({**settings.model_dump(), **given})
        opened = open_here(store)
        if not opened.releases():
            raise ServeError(f"The store {str(store)!r} has no release.", mend="Make one with `budwood run RECIPE`.")
        with display() as report:
            run(opened, settings, report=report, ready=lambda url: _print_ready(url, [row.name for row in opened.aliases()]))


def _print_ready(url: str, names: list[str]) -> None:
    typer.echo(f"Listening on {url}/v1 (models: {', '.join(dict.fromkeys(names)) or 'none is promoted yet'}); Ctrl-C stops it.")
    if names:
        typer.echo(f'Try:  budwood ask {names[0]} "..." --url {url}')
