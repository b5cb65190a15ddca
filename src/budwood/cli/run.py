"""`budwood run`: the whole way, plan to release, and promotion when the gate says so."""

from typing import Annotated

import typer

from budwood.cli.options import (
    DEFAULT_STORE,
    JsonOption,
    ProcessesOption,
    ReasonOption,
    RecipeArgument,
    SnapshotOption,
    StoreOption,
    TrackOption,
    WhoOption,
)
from budwood.cli.output import print_json, print_next
from budwood.cli.release import next_commands, print_released, verdict_code
from budwood.cli.stage import job_of


def register(app: typer.Typer) -> None:
    @app.command(
        name="run",
        short_help="Plan to release in one go; promote if the gate agrees.",
        epilog="Example: budwood run examples/support-triage/recipe.toml",
    )
    def run(
        recipe: RecipeArgument,
        store: StoreOption = DEFAULT_STORE,
        promote: Annotated[bool, typer.Option(help="move the alias when the verdict is PROMOTE")] = True,
        who: WhoOption = "",
        reason: ReasonOption = "",
        track: TrackOption = None,
        processes: ProcessesOption = 1,
        snapshot: SnapshotOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Walk plan, prepare, train, evaluate and release; promote when the gate says PROMOTE.

        Work that is already done and unchanged is recognised and skipped, so an interrupted run goes on where it stopped.
        """
        from budwood import pipeline

        with job_of(recipe, store, who=who, reason=reason, track=track or (), processes=processes, snapshot=snapshot) as job:
            released = pipeline.run(job, promote=promote)
        if as_json:
            print_json(released.as_dict())
        else:
            print_released(released)
            print_next(*next_commands(released, store))
        raise typer.Exit(verdict_code(released.verdict))
