"""`budwood evaluate`: the result and the base on the test suite, paired."""

import typer

from budwood.cli.options import (
    DEFAULT_STORE,
    JsonOption,
    RecipeArgument,
    RunOption,
    SnapshotOption,
    StoreOption,
    on_snapshot,
    on_store,
)
from budwood.cli.output import print_json, print_next, print_table
from budwood.cli.stage import job_of


def register(app: typer.Typer) -> None:
    @app.command(
        name="evaluate",
        short_help="Judge the result against the base, case by case.",
        epilog="Example: budwood evaluate support.toml",
    )
    def evaluate(
        recipe: RecipeArgument,
        store: StoreOption = DEFAULT_STORE,
        run: RunOption = "",
        snapshot: SnapshotOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Answer every test case with the base and with the result, and compare case by case."""
        from budwood import pipeline

        with job_of(recipe, store, run=run, snapshot=snapshot) as job:
            evaluated = pipeline.evaluate(job)
        if as_json:
            print_json(evaluated.as_dict())
            return
        names = list(evaluated.candidate.metrics)
        rows = [
            (
                name,
                _figure(evaluated.baseline.metrics.get(name)),
                _figure(evaluated.candidate.metrics[name]),
                _figure(evaluated.champion.metrics.get(name)) if evaluated.champion else "-",
            )
            for name in names
        ]
        print_table(("metric", "base", "this", "champion"), rows)
        compared = evaluated.comparison
        typer.echo(
            f"\n{compared.primary}: {compared.delta.mean:+.3f} against the base, interval "
            f"{compared.delta.low:+.3f} to {compared.delta.high:+.3f}; {len(compared.fixed):,} fixed, "
            f"{len(compared.regressed):,} regressed."
        )
        typer.echo(f"Report: {evaluated.page}")
        print_next(f"budwood release {recipe}{on_snapshot(snapshot)}{on_store(store)}")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
