"""`budwood data report`: a snapshot as one HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from budwood.cli.display import display
from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, check_out, on_store, open_here
from budwood.cli.output import for_terminal, print_json, print_next, print_pairs
from budwood.errors import DataError
from budwood.identity import short


def register(app: typer.Typer) -> None:
    @app.command(
        name="report",
        short_help="Write one HTML page about a snapshot.",
        epilog="Example: budwood data report support --recipe support.toml --production logs.jsonl",
    )
    def report(
        snapshot: Annotated[
            str,
            typer.Argument(help="a name (its newest), first digits of a digest, or a release of it; default: the newest"),
        ] = "",
        out: Annotated[
            Path | None, typer.Option("--out", help="where the page goes", show_default="NAME-data-DIGITS.html, here")
        ] = None,
        recipe: Annotated[
            Path | None, typer.Option("--recipe", help="its recipe: shows rows before and after a rule", show_default=False)
        ] = None,
        production: Annotated[
            Path | None,
            typer.Option("--production", help="a log of prompts that the held-out set should mirror", show_default=False),
        ] = None,
        store: StoreOption = DEFAULT_STORE,
        as_json: JsonOption = False,
    ) -> None:
        """Show what was read, changed and dropped, and whether what is held out mirrors train and production.

        The page needs no network. It shows texts of rows, with personal data redacted: keep it where the rows may be kept.
        """
        from budwood.data.find import find_snapshot
        from budwood.data.report.make import make_facts
        from budwood.data.report.page.render import render
        from budwood.recipe import load_recipe

        check_out(out)
        loaded = load_recipe(recipe) if recipe else None
        with open_here(store) as opened, display() as tell:
            digest = find_snapshot(opened, snapshot)
            facts = make_facts(opened, digest, recipe=loaded, production=production, report=tell)
            page = render(facts)
        path = out or Path(f"{facts.body['name']}-data-{short(digest)}.html")
        _write(path, page)
        if as_json:
            comparisons = [one.as_dict() for one in facts.comparisons]
            print_json({"snapshot": digest, "page": str(path), "bytes": len(page.encode()), "comparisons": comparisons})
            return
        counts = facts.body["counts"]
        names = ("read", "kept", "rejected", "train", "validation", "test")
        print_pairs([("snapshot", short(digest)), *((name, f"{counts[name]:,}") for name in names)])
        typer.echo("")
        for one in facts.comparisons:
            typer.echo(for_terminal(one.sentence))
        for note in facts.changes.notes:
            typer.echo(for_terminal(note))
        typer.echo(f"\nReport: {path} ({len(page.encode()):,} bytes)")
        print_next(f"budwood lineage {short(digest)}{on_store(store)}")


def _write(path: Path, page: str) -> None:
    try:
        path.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise DataError(
            f"The page cannot be written to {str(path)!r}: {error.strerror}.",
            where="--out",
            mend="Name a file in a folder of yours.",
        ) from None
