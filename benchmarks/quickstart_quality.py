"""Support triage over several seeds: seedling alone, LoRA, QLoRA and full fine-tuning, exact JSON match on held-out templates.

    python benchmarks/quickstart_quality.py --seeds 3

Each seed makes its own data and initial weights; the sentence templates of the test split occur in no training row. `--tune`
judges on templates held out of the training and validation rows instead, for choosing settings; the test split is then unread.
Prints a Markdown table; asserts nothing. About 10 minutes a seed on 2 cores.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean

from budwood import pipeline
from budwood.events import silent
from budwood.recipe import Recipe, load_recipe
from budwood.recipe.source import SourceSection
from budwood.store import open_store
from trial import add_arguments, changed, changes_of, judge

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "support-triage"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    add_arguments(parser)
    arguments = parser.parse_args()
    changes = changes_of(parser, arguments.set, tune=arguments.tune)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    table: dict[str, list[float]] = {}
    for seed in seeds:
        for name, score in one_seed(seed, arguments.methods, changes, tune=arguments.tune).items():
            table.setdefault(name, []).append(score)
            print(f"seed {seed}: {name} {score:.3f}", file=sys.stderr, flush=True)
    print("| | " + " | ".join(f"seed {seed}" for seed in seeds) + " | mean |")
    print("|---|" + "---:|" * (len(seeds) + 1))
    for name, scores in table.items():
        print(f"| {name} | " + " | ".join(f"{100 * score:.1f}" for score in scores) + f" | **{100 * fmean(scores):.1f}** |")


def one_seed(seed: int, methods: list[str], changes: dict[str, str], *, tune: bool) -> dict[str, float]:
    """Run the recipe with each method on one seed's data; give exact match by name."""
    scores: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = load(folder, seed)
        if tune:
            recipe = without_test(recipe, folder)
        for method in methods:
            found = judge(changed(recipe, method, changes, seed=seed), folder)
            print(f"seed {seed}: {method} trained in {found.train_s:,.0f} s", file=sys.stderr, flush=True)
            scores |= {"seedling alone": found.baseline, method: found.candidate}
    return scores


def load(folder: Path, seed: int) -> Recipe:
    """Make the data of a seed and put the recipe beside it."""
    for file in ("recipe.toml", "answer.schema.json"):
        shutil.copy(EXAMPLE / file, folder / file)
    subprocess.run(
        [sys.executable, EXAMPLE / "generate.py", f"--seed={seed}", "--out", folder / "data"], check=True, capture_output=True
    )
    recipe = load_recipe(folder / "recipe.toml")
    # The example judges a part of its test split to stay quick; a figure to quote takes all of it.
    return recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"max_cases": 0})})


def without_test(recipe: Recipe, folder: Path) -> Recipe:
    """Prepare once, keep the training and validation rows alone, and split these anew."""
    store = open_store(folder / ".first")
    snapshot = pipeline.prepare(pipeline.Job(recipe=recipe, store=store, report=silent, who="benchmark"))
    with (folder / "data" / "tune.jsonl").open("w", encoding="utf-8") as out:
        for split in ("train", "validation"):
            for line in store.file(snapshot, f"{split}.jsonl").read_text("utf-8").splitlines():
                row = json.loads(line)
                out.write(json.dumps({"messages": row["messages"], **row["slices"]}, ensure_ascii=False) + "\n")
    facts = recipe.source[0].model_dump(include={"origin", "licence", "cleaning", "labelling"})
    # Another key: under the same one the groups of the test split, which are gone, would be the test again.
    prepare = recipe.prepare.model_copy(update={"split_seed": recipe.prepare.split_seed + 1})
    return recipe.model_copy(update={"source": (SourceSection(path="data/tune.jsonl", **facts),), "prepare": prepare})


if __name__ == "__main__":
    main()
