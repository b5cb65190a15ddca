"""`budwood merge`: a release as one model in a folder."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, open_here
from budwood.cli.output import print_json, print_next, print_table


def register(app: typer.Typer) -> None:
    @app.command(
        name="merge",
        short_help="Write a release as one model, adapter and base together.",
        epilog="Example: budwood merge support@production --out merged",
    )
    def merge(
        ref: Annotated[str, typer.Argument(help="release: name, name@alias, name@number, or a digest's first digits")],
        out: Annotated[Path, typer.Option("--out", help="new folder for the model")],
        onto: Annotated[
            Literal["original", "dequantized"],
            typer.Option("--onto", help="which weights of a quantised base: as they came, or as they are in 4 or 8 bits"),
        ] = "original",
        store: StoreOption = DEFAULT_STORE,
        as_json: JsonOption = False,
    ) -> None:
        """Merge a release's adapter into its base and say how far the result is from what is served."""
        from budwood.cli.display import display
        from budwood.pipeline.merging import merge_release
        from budwood.release.lineage import find_object

        opened = open_here(store)
        with display() as report:
            merged = merge_release(opened, find_object(opened, ref), out, onto, report=report)
        if as_json:
            print_json(merged.as_dict())
            return
        typer.echo(f"{merged.folder}: the adapter merged onto the {merged.onto} weights.")
        rows = [
            (
                ("* " if name == merged.onto else "  ") + name,
                f"{one.mean_kl:.2g}",
                f"{one.most_kl:.2g}",
                f"{one.most_logit:.2g}",
                f"{one.other_choice:.1%} of {one.tokens:,}",
            )
            for name, one in merged.divergences.items()
        ]
        print_table(("onto", "KL, nats a token", "largest", "logits apart", "other first choice"), rows)
        typer.echo("Distance from the release as it is served, on its golden prompts.")
        print_next(f"vllm serve {out}")
