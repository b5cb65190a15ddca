"""What the quality benchmarks share: a recipe with other [train] values, and the figures that it comes to."""

from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path

from budwood import pipeline
from budwood.cli.display import display
from budwood.recipe import Recipe
from budwood.store import open_store

METHODS = ("lora", "qlora", "full")


@dataclass(frozen=True)
class Figures:
    """Primary metric of the plain base and of the result, the result's validation loss, and seconds of training."""

    baseline: float
    candidate: float
    validation_loss: float
    train_s: float


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--tune", action="store_true", help="judge on a part of the training rows; the test is not read")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="[train] values to try, with --tune")


def changes_of(parser: ArgumentParser, pairs: list[str], *, tune: bool) -> dict[str, str]:
    """The values of --set, which are for tuning alone: what is quoted is the recipe as it stands."""
    if pairs and not tune:
        parser.error("--set tries settings, which needs --tune; put the chosen ones into the recipe")
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        parser.error(f"--set takes KEY=VALUE, not {wrong[0]!r}, e.g. --set epochs=3")
    return dict(pair.split("=", 1) for pair in pairs)


def changed(recipe: Recipe, method: str, changes: dict[str, str], *, seed: int | None = None) -> Recipe:
    """The recipe with another method, other [train] values (as text, read like the recipe's) and another seed."""
    section = recipe.train.model_dump() | changes | {"method": method}
    train = type(recipe.train).model_validate(section, strict=False)
    return recipe.model_copy(update={"train": train, "seed": recipe.seed if seed is None else seed})


def judge(recipe: Recipe, folder: Path) -> Figures:
    """Train and evaluate in a store of its own under `folder`."""
    with display(quiet_s=30) as report:
        job = pipeline.Job(recipe=recipe, store=open_store(folder / ".budwood"), report=report, who="benchmark")
        evaluated = pipeline.evaluate(job)
        loss = float(job.store.manifest(evaluated.run).body["validation_loss"])
        seconds = float(job.store.attestations(evaluated.run)[-1]["seconds"])
    primary = recipe.evaluate.primary
    return Figures(
        float(evaluated.baseline.metrics[primary] or 0),
        float(evaluated.candidate.metrics[primary] or 0),
        loss,
        seconds,
    )
