"""Does a selection of train rows beat as many random ones? Support triage on the bundled seedling, validation loss, paired.

    python benchmarks/select_vs_random.py --rows 1000 --top 30%

For every score: how fast it is, how it is spread, and what a training on the best rows by it is worth against trainings on all
rows and on random ones of the same number (several draws). The same recipe trains every arm, so fewer rows are fewer steps.
Prints Markdown tables; asserts nothing.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from shutil import copy

from budwood.data.scores import NAMES, Judge, Score, Scored, score
from budwood.data.select import parse_top, select
from budwood.events import silent
from budwood.identity import Digest
from budwood.pipeline import Job, prepare
from budwood.pipeline.selecting import Arms, train_arms
from budwood.recipe import Recipe, load_recipe
from budwood.store import open_store

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "support-triage"
SHOWN = ("min", "p10", "p50", "p90", "max")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000, help="clean rows that are made")
    parser.add_argument("--top", default="30%")
    parser.add_argument("--by", nargs="+", choices=[name for name in NAMES if name != "random"], default=NAMES[:-1])
    parser.add_argument("--draws", type=int, default=2, help="random subsets")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of the base, everywhere")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = load(folder, arguments.rows, arguments.epochs, arguments.precision)
        with open_store(folder / ".budwood") as store:
            measure(Job(recipe, store, silent), arguments)


def load(folder: Path, rows: int, epochs: float, precision: str) -> Recipe:
    """Make the data and put the recipe beside it."""
    for file in ("recipe.toml", "answer.schema.json"):
        copy(EXAMPLE / file, folder / file)
    making = [sys.executable, str(EXAMPLE / "generate.py"), f"--rows={rows}", "--out", str(folder / "data")]
    subprocess.run(making, check=True, capture_output=True)
    recipe = load_recipe(folder / "recipe.toml")
    train = recipe.train.model_copy(update={"method": "lora", "epochs": epochs, "precision": precision, "validations": 1})
    return recipe.model_copy(update={"train": train})


def measure(job: Job, arguments: argparse.Namespace) -> None:
    parent = prepare(job)
    judge = Judge.open("seedling", start=Path(), precision=arguments.precision)
    top = parse_top(arguments.top)
    made: dict[str, Digest] = {}
    print(f"{arguments.precision}, {os.environ.get('OMP_NUM_THREADS', 'all')} threads\n")
    print("| score | rows/s | " + " | ".join(SHOWN) + " |\n|---|---:|" + "---:|" * len(SHOWN))
    for by in arguments.by:
        scored, rate = timed(job, parent, by, judge)
        figures = scored.quantiles()
        print(f"| {by} | {rate:,.0f} | " + " | ".join(f"{figures[one]:.4g}" for one in SHOWN) + " |", flush=True)
        made[by] = select(job.store, parent, scored, top).digest
    randoms = {
        f"random {seed}": select(job.store, parent, score(job.store, parent, by="random", seed=seed), top).digest
        for seed in range(arguments.draws)
    }
    compare(job, parent, made, randoms)


def timed(job: Job, parent: Digest, by: Score, judge: Judge) -> tuple[Scored, float]:
    """Score by one score; rows a second, loading not counted."""
    if by == "ifd":
        _ = judge.read
    began = time.perf_counter()
    scored = score(job.store, parent, by=by, judge=judge)
    return scored, len(scored.places) / (time.perf_counter() - began)


def compare(job: Job, parent: Digest, made: Mapping[str, Digest], randoms: Mapping[str, Digest]) -> None:
    """Train every arm and print losses, and each selection against every other way."""
    found: dict[str, Arms] = {
        by: train_arms(job, {"full": parent, "selected": digest, **randoms}) for by, digest in made.items()
    }
    print("\n| trained on | rows | steps | validation loss |\n|---|---:|---:|---:|")
    for by, arms in found.items():
        for arm in arms.arms:
            if arm.name == "selected" or by == next(iter(found)):
                name = f"best by {by}" if arm.name == "selected" else arm.name
                print(f"| {name} | {arm.rows:,} | {arm.steps:,} | {arm.loss:.4f} |")
    print("\n| | loss minus that of | | interval | |\n|---|---|---:|---:|---|")
    for by, arms in found.items():
        for one in arms.differences:
            delta = one.delta
            said = one.verdict.replace("selected", f"best by {by}")
            print(f"| best by {by} | {one.against} | {delta.mean:+.4f} | {delta.low:+.4f} to {delta.high:+.4f} | {said} |")


if __name__ == "__main__":
    main()
