"""BANKING77 with its published split: LoRA, QLoRA and full fine-tuning of seedling, same number of epochs.

    python benchmarks/banking77_quality.py --data ../shared/data/banking77

Test accuracy over all 3,080 rows. `--tune` judges on the validation part of the training file instead, for choosing settings:
the test file is then not read. Prints a Markdown table; asserts nothing.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from budwood import pipeline
from budwood.cli.display import display
from budwood.recipe import Recipe, load_recipe
from budwood.store import open_store

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "banking77"
METHODS = ("lora", "qlora", "full")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.csv and test.csv")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--tune", action="store_true", help="judge on a part of the training file")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="[train] values to try, with --tune")
    arguments = parser.parse_args()
    print("| | test accuracy | validation loss |\n|---|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = load(folder, arguments.data, tune=arguments.tune)
        for method in arguments.methods:
            changes = dict(pair.split("=", 1) for pair in arguments.set)
            accuracy, loss = judge(changed(recipe, method, changes), folder)
            print(f"| {method} | {100 * accuracy:.2f} | {loss:.4f} |", flush=True)


def load(folder: Path, data: Path, *, tune: bool) -> Recipe:
    """Put recipe and files side by side; for tuning without the test file and with a test part of the training file."""
    shutil.copy(EXAMPLE / "recipe.toml", folder / "recipe.toml")
    for file in ("train.csv",) if tune else ("train.csv", "test.csv"):
        shutil.copy(data / file, folder / file)
    recipe = load_recipe(folder / "recipe.toml")
    if not tune:
        return recipe
    source = recipe.source[0].model_copy(update={"split": "auto"})
    prepare = recipe.prepare.model_copy(update={"validation": 0.05, "test": 0.1})
    return recipe.model_copy(update={"source": (source,), "prepare": prepare})


def changed(recipe: Recipe, method: str, changes: dict[str, str]) -> Recipe:
    values: dict[str, object] = {"method": method}
    for key, value in changes.items():
        kind = type(getattr(recipe.train, key))
        values[key] = kind(value)
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=values)})


def judge(recipe: Recipe, folder: Path) -> tuple[float, float]:
    with display(quiet_s=30) as report:
        job = pipeline.Job(recipe=recipe, store=open_store(folder / ".budwood"), report=report, who="benchmark")
        evaluated = pipeline.evaluate(job)
    loss = job.store.manifest(evaluated.run).body["validation_loss"]
    return float(evaluated.candidate.metrics[recipe.evaluate.primary] or 0), float(loss)


if __name__ == "__main__":
    main()
