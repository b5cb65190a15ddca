"""BANKING77 with its published split: LoRA, QLoRA and full fine-tuning of seedling, same number of epochs.

    python benchmarks/banking77_quality.py --data ../shared/data/banking77

Test accuracy over all 3,080 rows. `--tune` judges on a tenth of the training file instead, for choosing settings: the test file
is then not read. Prints a Markdown table; asserts nothing.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from budwood.recipe import Recipe, load_recipe
from trial import add_arguments, changed, changes_of, judge

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "banking77"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.csv and test.csv")
    add_arguments(parser)
    arguments = parser.parse_args()
    changes = changes_of(parser, arguments.set, tune=arguments.tune)
    print("| | accuracy | validation loss | training |\n|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = load(folder, arguments.data, tune=arguments.tune)
        for method in arguments.methods:
            found = judge(changed(recipe, method, changes), folder)
            print(
                f"| {method} | {100 * found.candidate:.2f} | {found.validation_loss:.4f} | {found.train_s:,.0f} s |", flush=True
            )


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


if __name__ == "__main__":
    main()
