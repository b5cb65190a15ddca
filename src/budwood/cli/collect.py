"""`budwood collect`: remove what nothing needs any more; without --yes, say what that is."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, open_here
from budwood.cli.output import print_json, print_table
from budwood.identity import short

if TYPE_CHECKING:
    from budwood.store import Store

DAY_S = 86_400.0


def register(app: typer.Typer) -> None:
    @app.command(
        name="collect",
        short_help="Remove what no release was made from; first say what that is.",
        epilog="Example: budwood collect --older-than 30 --yes",
    )
    def collect(
        older_than: Annotated[float, typer.Option("--older-than", min=0.0, help="days; younger objects stay")] = 7.0,
        yes: Annotated[bool, typer.Option("--yes", help="do it; without this, only say what would go")] = False,
        store: StoreOption = DEFAULT_STORE,
        as_json: JsonOption = False,
    ) -> None:
        """Remove objects that no release was made from, with their caches.

        What is young, what a running command works with, and what these were made from stays.
        """
        opened = open_here(store)
        found = [_facts(opened, digest) for digest in opened.collect(True, older_than_s=older_than * DAY_S)]
        if yes:
            # What is in use by now, or was needed meanwhile, is not among those that really went.
            gone = set(opened.collect(False, older_than_s=older_than * DAY_S))
            found = [one for one in found if one["digest"] in gone]
        size = sum(one["bytes"] for one in found)
        if as_json:
            print_json({"objects": found, "bytes": size, "removed": yes})
            return
        if found:
            rows = [(one["kind"], short(one["digest"]), one["name"], f"{one['bytes']:,}") for one in found]
            print_table(("kind", "digest", "name", "bytes"), rows)
            typer.echo("")
        count = f"{len(found):,} object{'' if len(found) == 1 else 's'}, {size:,} bytes"
        typer.echo(f"{'Removed' if yes else 'To be removed'}: {count}. What is younger than {older_than:g} days stays.")
        if found and not yes:
            typer.echo("Nothing was changed. To do it, repeat with --yes.")


def _facts(store: "Store", digest: str) -> dict[str, Any]:
    """What an object is called, and how much of the disk it takes, its caches included."""
    from budwood.store.durable import size_under

    manifest = store.manifest(digest)
    size = sum(entry.size for entry in manifest.files)
    cache = store.root / "cache" / digest
    return {
        "kind": manifest.kind,
        "digest": digest,
        "name": str(manifest.body.get("name", "")),
        "bytes": size + (size_under(cache) if cache.is_dir() else 0),
    }
