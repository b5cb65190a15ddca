"""`budwood gc`: remove what nothing needs any more; with --dry-run, only say what that is."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, WhoOption, acting, on_store, open_here
from budwood.cli.output import print_json, print_next, print_table
from budwood.identity import short

if TYPE_CHECKING:
    from budwood.store import Store

DAY_S = 86_400.0


def register(app: typer.Typer) -> None:
    @app.command(
        name="gc",
        short_help="Remove what no release was made from; --dry-run says what that is.",
        epilog="Example: budwood gc --older-than 30 --keep-live 3 --dry-run",
    )
    def gc(
        dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would go")] = False,
        older_than: Annotated[float, typer.Option("--older-than", min=0.0, help="days; what is younger stays")] = 7.0,
        keep_live: Annotated[
            int | None,
            typer.Option(
                "--keep-live",
                min=0,
                show_default="releases stay",
                help="let releases go too, but for the live one and so many before it for each alias",
            ),
        ] = None,
        store: StoreOption = DEFAULT_STORE,
        who: WhoOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Remove objects that no release was made from, with their caches; and, if you say how many to keep, old releases.

        What is young, what a running command works with, and what these were made from stays. A release that goes leaves a
        tombstone, and its number stays taken.
        """
        opened = open_here(store)
        limit = older_than * DAY_S
        found = [_facts(opened, digest) for digest in opened.collect(True, older_than_s=limit, keep_live=keep_live)]
        if not dry_run:
            # What is in use by now, or was needed meanwhile, is not among those that really went.
            gone = set(opened.collect(False, older_than_s=limit, keep_live=keep_live, who=acting(who)))
            found = [one for one in found if one["digest"] in gone]
        size = sum(one["bytes"] for one in found)
        if as_json:
            print_json({"objects": found, "bytes": size, "removed": not dry_run})
            return
        if found:
            rows = [(one["kind"], short(one["digest"]), one["name"], f"{one['bytes']:,}") for one in found]
            print_table(("kind", "digest", "name", "bytes"), rows)
            typer.echo("")
        count = f"{len(found):,} object{'' if len(found) == 1 else 's'}, {size:,} bytes"
        typer.echo(f"{'To be removed' if dry_run else 'Removed'}: {count}. What is younger than {older_than:g} days stays.")
        if found and dry_run:
            typer.echo("Nothing was changed.")
            options = f" --older-than {older_than:g}" if older_than != 7.0 else ""
            options += f" --keep-live {keep_live}" if keep_live is not None else ""
            print_next(f"budwood gc{options}{on_store(store)}")


def _facts(store: "Store", digest: str) -> dict[str, Any]:
    """What an object is called, and how much of the disk it takes, its caches included."""
    from budwood.store.durable import size_under

    manifest = store.manifest(digest)
    size = sum(entry.size for entry in manifest.files)
    titles = [f"{row.name}@{row.version}" for row in store.releases() if row.digest == digest]
    cache = store.root / "cache" / digest
    return {
        "kind": manifest.kind,
        "digest": digest,
        "name": ", ".join(titles) or str(manifest.body.get("name", "")),
        "bytes": size + (size_under(cache) if cache.is_dir() else 0),
    }
