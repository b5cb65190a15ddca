"""`budwood train`: snapshot and base to an adapter (or a full model)."""

import typer

from budwood.cli.options import (
    DEFAULT_STORE,
    JsonOption,
    ProcessesOption,
    RecipeArgument,
    SnapshotOption,
    StoreOption,
    TrackOption,
    on_snapshot,
)
from budwood.cli.output import print_json, print_next, print_pairs
from budwood.cli.stage import job_of
from budwood.identity import short


def register(app: typer.Typer) -> None:
    @app.command(
        name="train",
        short_help="Train; prepares first when that has not been done.",
        epilog="Example: budwood train support.toml",
    )
    def train(
        recipe: RecipeArgument,
        store: StoreOption = DEFAULT_STORE,
        snapshot: SnapshotOption = "",
        track: TrackOption = None,
        processes: ProcessesOption = 1,
        as_json: JsonOption = False,
    ) -> None:
        """Train; prepares first when that has not been done. Interrupted training goes on from its last checkpoint."""
        from budwood import pipeline

        with job_of(recipe, store, track=track or (), processes=processes, snapshot=snapshot) as job:
            digest = pipeline.train(job)
            body = job.store.manifest(digest).body
            folder = job.store.folder(body["result"])
        if as_json:
            print_json({"run": digest, "folder": str(folder), **body})
            return
        print_pairs(
            [
                ("run", short(digest)),
                ("method", body["method"]),
                ("steps", f"{body['steps']:,} (kept: step {body['best_step']:,})"),
                ("validation", _loss(body["validation_loss"])),
                ("result", f"{short(body['result'])} in {folder}"),
            ]
        )
        print_next(f"budwood evaluate {recipe}{on_snapshot(snapshot)} --store {store}")


def _loss(value: float | None) -> str:
    return "not measured: no validation rows" if value is None else f"{value:.4f} nats per supervised token"
