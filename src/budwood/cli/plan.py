"""`budwood plan`: what would be done, what it would cost, and why."""

import typer

from budwood.cli.options import DEFAULT_STORE, JsonOption, RecipeArgument, SnapshotOption, StoreOption, on_snapshot, on_store
from budwood.cli.output import print_json, print_next, print_table
from budwood.cli.stage import job_of


def register(app: typer.Typer) -> None:
    @app.command(
        name="plan", short_help="Predict memory and time, and choose the method.", epilog="Example: budwood plan support.toml"
    )
    def plan(
        recipe: RecipeArgument, store: StoreOption = DEFAULT_STORE, snapshot: SnapshotOption = "", as_json: JsonOption = False
    ) -> None:
        """Predict memory and time for LoRA, QLoRA and full fine-tuning, and choose when the recipe says auto."""
        from budwood import pipeline

        with job_of(recipe, store, with_data=False, snapshot=snapshot) as job:
            made = pipeline.plan(job)
        if as_json:
            print_json(made.as_dict())
            return
        rows = [
            (
                ("* " if option.method == made.method else "  ") + option.method,
                "all" if option.checkpointing == "none" else "layer inputs",
                " / ".join(f"{size / 1e9:.2f}" for size in option.peak_bytes),
                _minutes(option.seconds),
                f"{option.trainable:,}",
                "yes" if option.fits else "no",
            )
            for option in made.options
        ]
        print_table(("method", "kept", "peak GB low/expected/high", "time", "trained parameters", "fits"), rows)
        for line in made.why:
            typer.echo(line)
        for warning in made.warnings:
            typer.echo(f"Note: {warning}")
        print_next(f"budwood run {recipe}{on_snapshot(snapshot)}{on_store(store)}")


def _minutes(seconds: float | None) -> str:
    if seconds is None:
        return "after prepare"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
