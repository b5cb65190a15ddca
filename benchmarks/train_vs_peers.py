"""Training against TRL + PEFT, and against the products that no trainer can do without.

    python benchmarks/train_vs_peers.py [--shapes 135m 0.5b] [--tokens 1500 4096] [--methods lora qlora] [--rounds 1]
        [--sides ...] [--checkpointing off|on] [--device cpu|cuda] [--json FILE] [--page docs/performance.md]

Same base (random weights, bfloat16), same rows, same supervised tokens, LoRA of rank 16 on all linear layers; every run a
process of its own, the sides in turn. Reported: median over the timed steps of tokens (no padding counted) a second, the
process's peak memory, and the roofline share: the time of the products alone for a step of that size over the step's time
(attention, adapters and anything computed twice not counted). On a GPU also the share of the rate that one large product
reaches. Asserts nothing. TRL's best is whichever of its settings was
fastest here. With `--json FILE` a later call goes on from what FILE holds, so that the whole can be measured in parts;
it takes some four hours on two cores, most of them TRL's. Install the peers with `pip install -e '.[bench]'`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

from peers.shapes import LONGEST, SHAPES, histogram, make_base, make_rows
from peers.table import Cell, markdown, put_into_page
from peers.trial import Found, Side, Trial

SIDES = get_args(Side)
BEST = ("trl by length", "trl larger batch", "trl packed")


def main() -> None:
    options = _options()
    if options.trial:
        _child(json.loads(options.trial))
        return
    cells = _kept(options.json)
    with tempfile.TemporaryDirectory() as folder:
        asked = product(range(options.rounds), options.shapes, options.tokens, options.methods, options.sides)
        for number, shape, tokens, method, side in asked:
            trial = Trial(
                side=side,
                shape=shape,
                method=method,
                tokens=tokens,
                steps=options.steps,
                warm=2,
                threads=options.threads,
                checkpointing=options.checkpointing == "on",
                device=options.device,
            )
            if any((cell.trial, cell.round) == (trial, number) for cell in cells):
                continue
            base = Path(folder) / shape
            if not base.exists():
                make_base(SHAPES[shape], base, options.device)
            cell = _measure(trial, number, base, cells)
            cells.append(cell)
            print(cell.line(), file=sys.stderr, flush=True)
            if options.json:
                _keep(options.json, cells, options)
    rows = make_rows(2000, 512, seed=0)
    page = markdown(cells, histogram(rows), LONGEST)
    print(page)
    if options.page:
        put_into_page(options.page, page)


def _measure(trial: Trial, number: int, base: Path, before: list[Cell]) -> Cell:
    """Run a trial in a process of its own; what ran out of memory is a finding, too."""
    task: dict[str, Any] = {"trial": trial.as_dict(), "base": str(base)}
    if trial.side == "products alone":
        ours = [cell for cell in before if cell.trial == replace(trial, side="budwood") and cell.found is not None]
        if not ours or ours[-1].found is None:
            return Cell(trial, number, None, "needs Budwood's own run before it")
        found = ours[-1].found
        task["of"] = [sum(found.tokens) // len(found.tokens), sum(found.supervised) // len(found.supervised)]
    environment = os.environ | {"OMP_NUM_THREADS": str(trial.threads), "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, __file__, "--trial", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Cell(trial, number, None, f"exit code {done.returncode}: {last[:160]}")
    return Cell(trial, number, Found(**json.loads(done.stdout.splitlines()[-1])), "")


def _child(task: dict[str, Any]) -> None:
    trial, base = Trial(**task["trial"]), task["base"]
    if trial.device == "cpu":  # a GPU's driver reserves addresses, not memory, far beyond what there is
        _stay_within_memory()
    if trial.side == "products alone":
        from peers import products

        found = products.run(trial, *task["of"])
    else:
        # Enough rows for a few steps more than are timed, on either side and at any batch.
        count = max(64, (trial.steps + trial.warm + 2) * trial.tokens // 180)
        rows = make_rows(count, SHAPES[trial.shape].vocab, seed=1)
        if trial.side == "budwood":
            from peers import ours

            found = ours.run(trial, Path(base), rows)
        else:
            from peers import with_trl

            found = with_trl.run(trial, base, rows * 3)
    print(json.dumps(found.as_dict()))


def _stay_within_memory() -> None:
    """Let a side that needs more than the machine has fail by itself, before the system ends something else."""
    import resource

    # What the system counts as free leaves out pages that it would give up at once.
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    resource.setrlimit(resource.RLIMIT_DATA, (int(0.92 * free), resource.RLIM_INFINITY))


def _kept(path: Path | None) -> list[Cell]:
    """Give what an earlier call measured: such runs are not done again."""
    if path is None or not path.exists():
        return []
    return [Cell.of(body) for body in json.loads(path.read_text())["cells"]]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _keep(path: Path, cells: list[Cell], options: argparse.Namespace) -> None:
    import platform

    facts = {"threads": options.threads, "processor": _processor(), "python": platform.python_version()}
    path.write_text(json.dumps({"facts": facts, "cells": [cell.as_dict() for cell in cells]}, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shapes", nargs="+", default=["135m", "0.5b"], choices=sorted(SHAPES))
    parser.add_argument("--tokens", nargs="+", type=int, default=[1500, 4096], help="of a step, about")
    parser.add_argument("--methods", nargs="+", default=["lora", "qlora"], choices=["lora", "qlora"])
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--steps", type=int, default=8, help="that are timed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1, help="how often all sides take their turn")
    parser.add_argument("--checkpointing", choices=["off", "on"], default="off", help="on both sides")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="1.5b and 7b want a GPU")
    parser.add_argument("--json", type=Path, help="kept after every run, and gone on from")
    parser.add_argument("--page", type=Path, help="whose table is replaced")
    parser.add_argument("--trial", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
