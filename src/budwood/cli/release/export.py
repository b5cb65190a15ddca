"""`budwood release export`: a release in a form that others read, or that another store takes in."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from budwood.cli.display import display
from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, open_here
from budwood.cli.output import print_json, print_next, print_pairs
from budwood.cli.release.show import RefArgument


def register(app: typer.Typer) -> None:
    @app.command(
        name="export",
        short_help="Write a release as files for others.",
        epilog="Example: budwood release export support@production --as archive --to support.tar",
    )
    def export(
        ref: RefArgument,
        form: Annotated[
            Literal["peft", "merged", "gguf", "archive", "oci"],
            typer.Option("--as", help="adapter folder, merged model, llama.cpp adapter; or all of it, to be imported"),
        ],
        to: Annotated[Path, typer.Option("--to", help="new file (gguf, archive) or folder (peft, merged, oci)")],
        with_data: Annotated[bool, typer.Option("--with-data", help="archive, oci: the training rows, too")] = False,
        with_base: Annotated[bool, typer.Option("--with-base", help="archive, oci: the base's own files, too")] = False,
        onto: Annotated[
            Literal["original", "dequantized"],
            typer.Option("--onto", help="merged: onto which weights of a quantised base"),
        ] = "original",
        max_rank: Annotated[
            int, typer.Option("--max-rank", min=0, help="peft: convert to plain LoRA of this rank, and say what that costs")
        ] = 0,
        store: StoreOption = DEFAULT_STORE,
        as_json: JsonOption = False,
    ) -> None:
        """Export a release. An archive or layout holds what serving it elsewhere needs, given the base, and its evidence.

        Earlier releases are named in it, and training rows unless asked for: they are not carried.
        """
        from budwood.pipeline.exporting import Wish, export_release

        opened = open_here(store)
        row = opened.find_release(ref)
        with display() as report:
            done = export_release(opened, row, to, Wish(form, with_data, with_base, onto, max_rank), report=report)
        if as_json:
            print_json(done.as_dict())
            return
        typer.echo(f"{row.name}@{row.version} as {form}:")
        print_pairs(
            [("place", done.place), ("size", f"{done.size:,} bytes"), ("sha256", done.digest), ("release", done.release)]
        )
        if done.converted is not None:
            one = done.converted.divergence
            typer.echo(
                f"Converted to plain LoRA of rank {max_rank}: at most {done.converted.most_lost:.1%} of a layer's change was "
                f"lost; on the golden prompts KL {one.mean_kl:.2g} nats a token, other first choice in {one.other_choice:.1%}."
            )
        print_next(_next(form, to))


def _next(form: str, to: Path) -> str:
    commands = {
        "peft": f"vllm serve BASE --enable-lora --lora-modules NAME={to}",
        "merged": f"vllm serve {to}",
        "gguf": f"llama-server -m BASE.gguf --lora {to}",
    }
    return commands.get(form, f"budwood release import {to} --store OTHER")
