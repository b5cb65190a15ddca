"""Tokens a second and peak memory of our own training on the bundled base: LoRA, QLoRA, full, in both precisions.

    python benchmarks/train_speed.py [--tokens 4096] [--steps 4] [--threads 2]

Rows are random tokens, 60 to 180 long, 30 of them supervised. Each line is a process of its own, so that its peak is its own.
The first step warms up and is left out; the best and the median of the others are shown, since a shared machine only ever adds
time. CPU time is that of all threads: tokens per CPU second are the figure to compare on a machine that is not idle. Asserts
nothing.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from budwood.engine.packed import Encoded
    from budwood.train.settings import TrainSettings
    from budwood.train.trainable import Trainable

CASES = [("lora", "float32"), ("lora", "bfloat16"), ("qlora", "float32"), ("qlora", "bfloat16"), ("full", "float32")]


def main() -> None:
    options = _options()
    if options.case:
        method, precision = options.case.split(":")
        print(json.dumps(measure(method, precision, options.tokens, options.steps, options.threads)))
        return
    print(f"{'method':<8}{'precision':<11}{'tokens/s best':>14}{'median':>9}{'per CPU s':>11}{'peak GB':>9}")
    for method, precision in CASES:
        command = [sys.executable, __file__, "--case", f"{method}:{precision}", "--tokens", str(options.tokens)]
        command += ["--steps", str(options.steps), "--threads", str(options.threads)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{method:<8}{precision:<11}{found['best']:>14,.0f}{found['median']:>9,.0f}{found['per_cpu_s']:>11,.0f}"
            f"{found['peak_bytes'] / 1e9:>9.2f}",
            flush=True,
        )


def measure(method: str, precision: str, tokens: int, steps: int, threads: int) -> dict[str, float]:
    """Time whole steps: packing, forward, backward, clipping and update."""
    import torch

    from budwood.engine.packed import pack, plan_passes
    from budwood.recipe import TrainSection
    from budwood.train.determinism import deterministic
    from budwood.train.memory import peak_bytes
    from budwood.train.optimiser import Optimiser
    from budwood.train.settings import Method, TrainSettings

    known: dict[str, Method] = {"lora": "lora", "qlora": "qlora", "full": "full"}
    settings = TrainSettings.of(TrainSection(), method=known[method], learning_rate=1e-4, seed=0)
    dtype: torch.dtype = getattr(torch, precision)
    trainable = _trainable(settings, dtype)
    optimiser = Optimiser(trainable.parameters, settings)
    rows = _rows(steps * tokens)
    planned = plan_passes([len(row.ids) for row in rows], tokens, seed=0, epoch=0)
    passes = [[rows[place] for place in places] for places in planned]
    whole = [chosen for chosen in passes if sum(len(row.ids) for row in chosen) > 0.8 * tokens]
    rates: list[float] = []
    per_cpu: list[float] = []
    with deterministic(threads):
        for chosen in whole[: steps + 1]:
            wall, cpu = time.perf_counter(), time.process_time()
            batch = pack(chosen)
            (trainable.loss_sum(batch, dropout=None) / len(batch.targets)).backward()  # type: ignore[no-untyped-call]  # torch
            optimiser.update(1e-4, optimiser.measure())
            rates.append(len(batch.input_ids) / (time.perf_counter() - wall))
            per_cpu.append(len(batch.input_ids) / (time.process_time() - cpu))
    return {
        "best": max(rates[1:]),
        "median": statistics.median(rates[1:]),
        "per_cpu_s": max(per_cpu[1:]),
        "peak_bytes": peak_bytes(torch.device("cpu")),
    }


def _trainable(settings: "TrainSettings", dtype: "torch.dtype") -> "Trainable":
    import torch

    from budwood.engine.base import load_base, resolve_base
    from budwood.engine.lora import LoraConfig, new_adapter, target_paths
    from budwood.train.trainable import AdapterTraining, FullTraining

    full = settings.method == "full"
    base = load_base(
        resolve_base("seedling"),
        dtype=torch.float32 if full else dtype,
        quantization="nf4" if settings.method == "qlora" else "none",
    )
    if full:
        return FullTraining(base.model, dtype)
    config = LoraConfig(settings.rank, settings.alpha, targets=target_paths(base.model, "all-linear"))
    return AdapterTraining(base.model, new_adapter(base.model, config, seed=0))


def _rows(tokens: int) -> "list[Encoded]":
    """Enough rows for one step more than `tokens`."""
    from budwood.engine.packed import Encoded

    draw = random.Random(0)
    lengths = [draw.randint(60, 180) for _ in range(2 * tokens // 120 + 100)]
    return [
        Encoded(tuple(draw.randrange(6, 6000) for _ in range(length)), tuple(index >= length - 30 for index in range(length)))
        for length in lengths
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tokens", type=int, default=4096, help="of a step")
    parser.add_argument("--steps", type=int, default=4, help="that are timed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--case", default="", help="method:precision, measured in this process")
    return parser.parse_args()


if __name__ == "__main__":
    main()
