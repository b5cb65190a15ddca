"""`budwood prepare`: raw files to a snapshot."""

import shlex
from typing import Annotated

import typer

from budwood.cli.options import DEFAULT_STORE, JsonOption, RecipeArgument, StoreOption, on_store
from budwood.cli.output import print_json, print_next, print_pairs
from budwood.cli.stage import job_of
from budwood.identity import short

ProcessesOption = Annotated[
    int, typer.Option("--processes", min=0, help="How many work on it; 0: one a core. The snapshot is the same.")
]
COUNTED = ("read", "kept", "rejected", "forgotten", "train", "validation", "test")


def register(app: typer.Typer) -> None:
    @app.command(
        name="prepare", short_help="Clean, deduplicate and split the raw files.", epilog="Example: budwood prepare support.toml"
    )
    def prepare(
        recipe: RecipeArgument,
        store: StoreOption = DEFAULT_STORE,
        processes: ProcessesOption = 0,
        as_json: JsonOption = False,
    ) -> None:
        """Read, clean, deduplicate and split the raw files; keep every rejected row with its reason."""
        from budwood import pipeline
        from budwood.prepare.snapshot import CONFLICTS

        with job_of(recipe, store) as job:
            digest = pipeline.prepare(job, processes=processes)
            manifest = job.store.manifest(digest)
            folder = job.store.folder(digest)
        if as_json:
            print_json({"snapshot": digest, "folder": str(folder), **manifest.body})
            return
        counts = manifest.body["counts"]
        print_pairs([("snapshot", short(digest)), *((name, f"{counts[name]:,}") for name in COUNTED if name in counts)])
        typer.echo("\nRules that touched rows:")
        for rule in manifest.body["rules"]:
            did = ", ".join(f"{rule[verb]:,} {verb}" for verb in ("changed", "dropped", "flagged") if rule[verb])
            if did:
                typer.echo(f"  {rule['name']}: {did}")
        for one in manifest.body.get("benchmarks", ()):
            typer.echo(
                f"\n{one['name']}: {one['touched']['any']:,} of {one['rows']:,} rows stand in part in the sources; "
                f"{one['dropped']:,} source rows dropped for it, {one['flagged']:,} flagged"
            )
        if "conflicts" in manifest.body:
            typer.echo(f"\nConflicts: {manifest.body['conflicts']['listed']:,}, listed in {folder / CONFLICTS}")
        for note in manifest.body["groups"]["notes"]:
            typer.echo(f"\nNote: {note}")
        typer.echo(f"\nData card: {folder / 'card.md'}\nRejected:  {folder / 'rejected.jsonl'}")
        again = f"{shlex.quote(str(recipe))}{on_store(store)}"
        print_next(
            f"budwood data report {short(digest)} --recipe {again}",
            f"budwood data why FILE:LINE {short(digest)}{on_store(store)}",
            f"budwood train {again}",
        )
