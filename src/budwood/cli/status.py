"""`budwood status`: releases, aliases, what servers answer with, and the last events."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, open_here
from budwood.cli.output import for_terminal, print_indented, print_json, print_next, print_table
from budwood.cli.trial import print_trial
from budwood.identity import Digest, short

if TYPE_CHECKING:
    from budwood.store import ReleaseRow, Store
    from budwood.train.live import UnderWay


def register(app: typer.Typer) -> None:
    @app.command(
        name="status", short_help="Show releases, aliases, and what servers serve.", epilog="Example: budwood status support"
    )
    def status(
        name: Annotated[str, typer.Argument(help="name of the releases; default: all")] = "",
        store: StoreOption = DEFAULT_STORE,
        as_json: JsonOption = False,
    ) -> None:
        """Show releases with their verdicts, where the aliases point, and what running servers answer with."""
        from budwood.release.canary import statuses
        from budwood.release.status import status as read
        from budwood.train.live import under_way

        opened = open_here(store)
        releases = [_release(opened, row) for row in opened.releases(name or None)]
        found = read(opened, name or None)
        trainings = under_way(opened.root / "work")
        if as_json:
            print_json(
                {
                    "releases": releases,
                    "trainings": [_training(one) for one in trainings],
                    **found.as_dict(),
                    "trials": [one.as_dict() for one in statuses(opened, name or None)],
                }
            )
            return
        for training in trainings:
            typer.echo(f"  Training {training.line()}")
        if not releases:
            typer.echo(f"No releases in {store} yet.")
            print_next("budwood run RECIPE.toml")
            return
        rows = [(f"{one['name']}@{one['version']}", short(one["digest"]), one["verdict"], one["summary"]) for one in releases]
        print_table(("release", "digest", "verdict", "primary metric"), rows)
        typer.echo("")
        for alias in found.aliases:
            typer.echo(f"  {alias.line()}")
            if alias.stale:
                print_indented(f"  {for_terminal(alias.stale)}")
        for trial in statuses(opened, name or None):
            print_trial(trial, full=False)
        for event in found.events:
            typer.echo(f"  {event.at[:19]}  {event.kind}  {event.who}  {event.reason}".rstrip())


def _training(training: "UnderWay") -> dict[str, Any]:
    points = [point.as_dict() for point in training.points]
    return {"recipe": training.recipe, "method": training.method, "work": training.work.name, "points": points}


def _release(store: "Store", row: "ReleaseRow") -> dict[str, Any]:
    from budwood.release.status import body_or_reason, verdict_word

    body, gone = body_or_reason(store, row.digest)
    bound = body.get("report") if body else None
    report = store.current(bound) if bound else None
    return {
        "name": row.name,
        "version": row.version,
        "digest": row.digest,
        "verdict": verdict_word(body),
        "summary": gone or _summary(store, report),
        "page": str(_page(store, report)) if report else None,
    }


def _summary(store: "Store", report: str | None) -> str:
    """Name the primary metric of the release's report with its value."""
    from budwood.release.status import body_or_reason

    if report is None:
        return "no report"
    body, gone = body_or_reason(store, Digest(report))
    if body is None:
        return f"report {gone}"
    value = body["metrics"].get(body["primary"])
    removed = int(body.get("forgets", {}).get("cases", 0))
    less = f", without {removed:,} case{'s' if removed > 1 else ''} removed on request" if removed else ""
    return f"{body['primary']} {value:.3f}{less}" if value is not None else str(body["primary"])


def _page(store: "Store", report: str) -> Path:
    return store.attachment(report, "report.html")
