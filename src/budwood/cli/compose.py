"""`budwood compose`: several releases' adapters made into one."""

from typing import Annotated, Literal

import typer

from budwood.cli.options import DEFAULT_STORE, JsonOption, RecipeArgument, StoreOption, WhoOption
from budwood.cli.output import print_json, print_next, print_pairs
from budwood.cli.stage import job_of
from budwood.errors import RecipeError
from budwood.identity import short

Method = Literal["linear", "concatenate", "svd", "ties", "dare"]


def register(app: typer.Typer) -> None:
    @app.command(
        name="compose",
        short_help="Make one adapter of several releases of one base.",
        epilog="Example: budwood compose support.toml support@2=0.7 billing@1=0.3 --method svd --rank 16",
    )
    def compose(
        recipe: RecipeArgument,
        releases: Annotated[list[str], typer.Argument(help="releases with weights: name@number=0.5; without: 1")],
        method: Annotated[Method, typer.Option("--method", help="how; concatenate is exact and adds up the ranks")] = "svd",
        rank: Annotated[int, typer.Option("--rank", min=0, help="for svd, ties and dare; 0: the largest among them")] = 0,
        density: Annotated[float, typer.Option("--density", help="share of entries kept, for ties and dare")] = 0.5,
        seed: Annotated[int, typer.Option("--seed", help="of dare's choice")] = 0,
        store: StoreOption = DEFAULT_STORE,
        who: WhoOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Make one adapter of several: stored with the releases as its parents, judged and released like any other."""
        from budwood.engine.lora.compose import Settings
        from budwood.pipeline.composing import compose_releases
        from budwood.release.lineage import find_object

        names, weights = zip(*map(_weighted, releases), strict=True)
        with job_of(recipe, store, who=who, with_data=False) as job:
            digests = [find_object(job.store, name) for name in names]
            composed = compose_releases(job, digests, Settings(method, weights, rank, density, seed))
        if as_json:
            print_json(composed.as_dict())
            return
        print_pairs(
            [
                ("run", short(composed.run)),
                ("adapter", f"{short(composed.adapter)}, rank {composed.rank}"),
                ("lost", f"{composed.lost:.1%} of the wanted change, on average over the layers"),
                *(("note", note) for note in composed.notes),
            ]
        )
        print_next(f"budwood release {recipe} --run {short(composed.run)} --store {store}")


def _weighted(text: str) -> tuple[str, float]:
    name, given, weight = text.partition("=")
    try:
        return name, float(weight) if given else 1.0
    except ValueError:
        raise RecipeError(f"{text!r} has no number after =.", where="releases", mend="Write e.g. support@2=0.7.") from None
