"""`budwood serve`: answer OpenAI's API with what the aliases point to."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from budwood.cli.display import display
from budwood.cli.drift import CODES as DRIFT_CODES
from budwood.cli.options import DEFAULT_STORE, StoreOption, open_here
from budwood.cli.output import for_terminal
from budwood.errors import ServeError

if TYPE_CHECKING:
    from budwood.engine.base import BaseRef
    from budwood.recipe import Recipe, ServeSection
    from budwood.serve.api.actions import AdminActions
    from budwood.serve.drift import Measure
    from budwood.serve.run import Server
    from budwood.store import Store

LONGEST_DRIFT_S = 1800.0


def register(app: typer.Typer) -> None:
    @app.command(name="serve", short_help="Serve every alias behind OpenAI's API.", epilog="Example: budwood serve --port 8321")
    def serve(
        store: StoreOption = DEFAULT_STORE,
        recipe: Annotated[
            Path | None, typer.Option("--recipe", help="take [serve] and the place of the base from this recipe")
        ] = None,
        host: Annotated[
            str | None, typer.Option("--host", help="address to bind; others than loopback need a token in the store")
        ] = None,
        port: Annotated[int | None, typer.Option("--port", min=0, max=65535, help="0: any free port, printed at start")] = None,
    ) -> None:
        """Serve every alias of the store on one OpenAI-compatible endpoint; it follows promotions and rollbacks as it runs."""
        from budwood.recipe import ServeSection, load_recipe
        from budwood.release.canary import guard
        from budwood.serve.run import serve as run

        chosen = load_recipe(recipe) if recipe else None
        settings = _placed(chosen) if chosen else ServeSection()
        given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
        settings = ServeSection.model_validate({**settings.model_dump(), **given})
        opened = open_here(store)
        if not opened.releases():
            raise ServeError(f"The store {str(store)!r} has no release.", mend="Make one with `budwood run RECIPE`.")
        with display() as report:
            run(
                opened,
                settings,
                bases=_bases(chosen),
                guard=guard,
                admin=admin_actions(opened),
                measure_drift=drift_measure(store, settings),
                report=report,
                ready=_print_ready,
            )


def drift_measure(store: Path, settings: "ServeSection") -> "Measure":
    """Measure drift in a process of its own, so that it takes no time from those that wait for answers.

    It finds the catalog as every command does: where the store's folder says, or in BUDWOOD_CATALOG.
    """

    def measure(name: str, alias: str) -> str:
        words = ["drift", name, "--alias", alias, "--margin", str(settings.drift_margin)]
        command = [sys.executable, "-m", "budwood", *words, "--store", str(store), "--who", "server (drift)"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_DRIFT_S, check=False)
        except subprocess.TimeoutExpired:
            return f"it took longer than {LONGEST_DRIFT_S:.0f} s"
        if done.returncode in DRIFT_CODES.values():
            return ""
        # One that was killed has said nothing.
        return done.stderr.strip() or f"`budwood drift` ended with code {done.returncode}"

    return measure


def _placed(recipe: "Recipe") -> "ServeSection":
    """[serve] with its paths from where the command runs. Links are not followed: an environment's Python is one."""
    section = recipe.serve
    places = {name: getattr(section, name) for name in ("vllm_python", "vllm_adapters") if "/" in getattr(section, name)}
    return section.model_copy(update={name: str(recipe.path(place).absolute()) for name, place in places.items()})


def admin_actions(store: "Store") -> "AdminActions":
    """What the admin API does: the moves of `budwood promote` and `budwood rollback`."""
    from budwood.release.promote import promote, rollback
    from budwood.serve.api.actions import AdminActions

    def forward(ref: str, alias: str, *, expect: str | None, who: str, reason: str, override: str | None) -> dict[str, Any]:
        return promote(store, ref, alias, expect=expect, who=who, reason=reason, override=override).as_dict()

    def back(name: str, alias: str, *, to: str | None, who: str, reason: str) -> dict[str, Any]:
        return rollback(store, name, alias, to=to, who=who, reason=reason).as_dict()

    return AdminActions(
        releases=lambda: [dict(vars(row)) for row in store.releases()],
        history=lambda name: [event.as_dict() for event in store.history(name or None)],
        promote=forward,
        rollback=back,
        calls=lambda last: [dict(vars(row)) for row in store.access.calls(last)],
    )


def _bases(recipe: "Recipe | None") -> "list[BaseRef]":
    """Where the recipe says that the base is: tried before where it was when a release was made."""
    from budwood.engine.base import resolve_base

    return [resolve_base(recipe.base.id, start=recipe.folder)] if recipe else []


def _print_ready(server: "Server") -> None:
    state = server.state()
    names = list(dict.fromkeys(alias.partition("@")[0] for alias in state["aliases"]))
    typer.echo(f"Listening on {server.url}/v1 (models: {', '.join(names) or 'none yet'}); Ctrl-C stops it.")
    for alias, problem in state["problems"].items():
        typer.echo(f"  {alias}: {for_terminal(problem)}")
    if names:
        typer.echo(f'Try:  budwood ask {names[0]} "..." --url {server.url}')
