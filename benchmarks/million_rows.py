"""How long a training over many rows takes to begin, and what the rows hold in memory: once tokenised, and the first time.

    python benchmarks/million_rows.py [--rows 1000000] [--tokens 60]

A store with a snapshot of synthetic conversations is made in a temporary folder, and `train` is called twice on the bundled
base: with nothing cached (rows are rendered and tokenised), then again. Time is from the call to the first optimiser step,
loading of the base, checks of all digests and the plan of all epochs included. Memory is anonymous memory at the end of that
step, less the same of a training over 1,000 rows. Each training is a process of its own. Asserts nothing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FEW = 1000
VALIDATION = 32
"""Few: the loss that training starts from is measured before the first step, which takes the model's time."""


def main() -> None:
    options = _options()
    if options.store:
        print(json.dumps(_first_step(Path(options.store), options.digest)))
        return
    with tempfile.TemporaryDirectory() as folder:
        few, many = (_make(Path(folder), rows, options.tokens) for rows in (FEW, options.rows))
        found = {name: _run(*which) for name, which in {"few": few, "first": many, "cached": many}.items()}
    for name in ("first", "cached"):
        beyond = found[name]["anonymous"] - found["few"]["anonymous"]
        print(
            f"{options.rows:,} rows, {name}: first step after {found[name]['seconds']:.1f} s, "
            f"{beyond / 1e6:,.0f} MB beyond {FEW:,} rows"
        )


def _run(store: Path, digest: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--store", str(store), "--digest", digest]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _make(folder: Path, rows: int, tokens: int) -> tuple[Path, str]:
    from budwood.store import open_store

    with open_store(folder / f"{rows}") as store, store.draft("snapshot") as draft:
        for split, count in (("train", rows), ("validation", VALIDATION)):
            with (draft.folder / f"{split}.jsonl").open("w") as file:
                for number in range(count):
                    file.write(json.dumps(_record(number, tokens)) + "\n")
        return folder / f"{rows}", draft.commit(body={"name": "many", "counts": {"train": rows, "validation": VALIDATION}})


def _record(number: int, words: int) -> dict[str, Any]:
    text = " ".join(f"order {number + step}" for step in range(words // 6))
    return {
        "row_id": f"{number:064x}",
        "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": f"Order {number} is on its way."}],
        "source": {"file": "rows.jsonl", "sha256": "0" * 64, "line": number + 1},
        "weight": 1.0,
    }


class _Begun(Exception):  # no error: the first step is made
    pass


def _first_step(folder: Path, digest: str) -> dict[str, float]:
    from budwood.engine.base import resolve_base
    from budwood.events import Event
    from budwood.identity import Digest
    from budwood.recipe import recipe_from_mapping
    from budwood.store import open_store
    from budwood.train.run import train
    from budwood.train.settings import TrainSettings

    recipe = recipe_from_mapping({"name": "many", "source": [{"path": "rows.jsonl"}]}, folder=Path("."))
    settings = TrainSettings.of(recipe.train, method="lora", learning_rate=1e-3, seed=0)

    def note(event: Event) -> None:
        if "loss" in event.fields:
            raise _Begun

    begun = time.perf_counter()
    with open_store(folder) as store:
        try:
            train(recipe, store, Digest(digest), resolve_base("seedling"), settings=settings, report=note)
        except _Begun:
            return {"seconds": time.perf_counter() - begun, "anonymous": _anonymous_bytes()}
    raise RuntimeError("the training ended without a step")


def _anonymous_bytes() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--tokens", type=int, default=60, help="of a row, about")
    parser.add_argument("--store", default="", help=argparse.SUPPRESS)
    parser.add_argument("--digest", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
