"""`budwood release import`: take an exported release into this store."""

from pathlib import Path
from typing import Annotated

import typer

from budwood.cli.display import display
from budwood.cli.options import DEFAULT_STORE, JsonOption, ReasonOption, StoreOption, WhoOption, acting, on_store, open_here
from budwood.cli.output import print_json, print_next, print_pairs


def register(app: typer.Typer) -> None:
    @app.command(
        name="import",
        short_help="Take an exported release into this store.",
        epilog="Example: budwood release import support.tar",
    )
    def take_in(
        path: Annotated[Path, typer.Argument(help="an archive, or the folder of an OCI layout")],
        as_name: Annotated[str, typer.Option("--as-name", help="register it under another name", show_default="its own")] = "",
        store: StoreOption = DEFAULT_STORE,
        who: WhoOption = "",
        reason: ReasonOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Check every digest of an archive or OCI layout and register the release; nothing is visible before all is checked."""
        from budwood.pipeline.importing import import_from

        opened = open_here(store, create=True)
        with display() as report:
            done = import_from(
                opened,
                path,
                as_name=as_name or None,
                who=acting(who),
                reason=reason or f"imported from {path.name}",
                report=report,
            )
        if as_json:
            print_json(done.as_dict())
            return
        ref = f"{done.name}@{done.version}"
        typer.echo(f"{ref} is in this store, every byte checked.")
        left = f"{done.left_out} parts are named, not here" if done.left_out else "nothing was left out"
        pairs = [("release", done.digest), ("objects", f"{done.objects} ({left})"), ("signed", "yes" if done.signed else "no")]
        print_pairs([*pairs, *([("base", done.base)] if done.base else [])])
        print_next(f"budwood release show {ref}{on_store(store)}", f"budwood promote {ref}{on_store(store)}")
