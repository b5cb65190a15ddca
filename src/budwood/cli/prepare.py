"""`budwood prepare`: raw files to a snapshot."""

import typer

from budwood.cli.options import DEFAULT_STORE, JsonOption, RecipeArgument, StoreOption
from budwood.cli.output import print_json, print_next, print_pairs
from budwood.cli.stage import job_of
from budwood.identity import short


def register(app: typer.Typer) -> None:
    @app.command(
        name="prepare", short_help="Clean, deduplicate and split the raw files.", epilog="Example: budwood prepare support.toml"
    )
    def prepare(recipe: RecipeArgument, store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
        """Read, clean, deduplicate and split the raw files; keep every rejected row with its reason."""
        from budwood import pipeline

        with job_of(recipe, store) as job:
            digest = pipeline.prepare(job)
            manifest = job.store.manifest(digest)
            folder = job.store.folder(digest)
        if as_json:
            print_json({"snapshot": digest, "folder": str(folder), **manifest.body})
            return
        counts = manifest.body["counts"]
        print_pairs([("snapshot", short(digest)), *((name, f"{count:,}") for name, count in counts.items())])
        typer.echo("\nRules that touched rows:")
        for rule in manifest.body["rules"]:
            did = ", ".join(f"{rule[verb]:,} {verb}" for verb in ("changed", "dropped", "flagged") if rule[verb])
            if did:
                typer.echo(f"  {rule['name']}: {did}")
        typer.echo(f"\nData card: {folder / 'card.md'}\nRejected:  {folder / 'rejected.jsonl'}")
        look = f"budwood data report {short(digest)} --recipe {recipe} --store {store}"
        print_next(look, f"budwood train {recipe} --store {store}")
