"""`budwood release make`: bind result, base, report and probes into a deploy unit, and judge it."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from budwood.cli.options import (
    DEFAULT_STORE,
    JsonOption,
    ReasonOption,
    RecipeArgument,
    RunOption,
    SnapshotOption,
    StoreOption,
    WhoOption,
)
from budwood.cli.output import print_json, print_next, print_pairs
from budwood.cli.stage import job_of
from budwood.identity import short

if TYPE_CHECKING:
    from budwood.pipeline import Released

CODES: dict[str, int] = {"PROMOTE": 0, "REJECT": 1, "INCONCLUSIVE": 2}


def register(app: typer.Typer) -> None:
    @app.command(
        name="make", short_help="Make the release and let the gate judge it.", epilog="Example: budwood release support.toml"
    )
    def make(
        recipe: RecipeArgument,
        store: StoreOption = DEFAULT_STORE,
        run: RunOption = "",
        snapshot: SnapshotOption = "",
        who: WhoOption = "",
        reason: ReasonOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Make the release with its golden probes and let the gate judge it. Exit code: 0 PROMOTE, 1 REJECT, 2 INCONCLUSIVE."""
        from budwood import pipeline

        with job_of(recipe, store, who=who, reason=reason, run=run, snapshot=snapshot) as job:
            released = pipeline.release(job)
        if as_json:
            print_json(released.as_dict())
        else:
            print_released(released)
            print_next(*next_commands(released, store))
        raise typer.Exit(verdict_code(released.verdict))


def verdict_code(verdict: Literal["PROMOTE", "REJECT", "INCONCLUSIVE"]) -> int:
    return CODES[verdict]


def next_commands(released: "Released", store: Path) -> list[str]:
    """What is sensible after a verdict: to promote only what the gate lets through and is not live yet."""
    if released.live:
        return [f"budwood serve --store {store}", f"budwood status --store {store}"]
    if released.verdict == "PROMOTE":
        alias = "" if released.alias == "production" else f" --alias {released.alias}"
        return [f"budwood promote {released.name}@{released.version}{alias} --store {store}"]
    return [f"budwood status {released.name} --store {store}"]


def print_released(released: "Released") -> None:
    print_pairs(
        [
            ("release", f"{released.name}@{released.version} ({short(released.digest)})"),
            ("verdict", released.verdict),
            *(("", reason) for reason in released.reasons),
            ("alias", released.alias_now),
            ("report", str(released.page)),
        ]
    )
