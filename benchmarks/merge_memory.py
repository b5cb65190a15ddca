"""What merging holds at most, beside the base's mapped pages, and how fast it goes.

    python benchmarks/merge_memory.py                # the 0.5B Qwen2.5 shape
    python benchmarks/merge_memory.py --shape 135m

A base with random weights in bfloat16 and an adapter of rank 16 on every linear layer are written once; then each merge runs
in a process of its own, the adapter in memory before, whose anonymous memory is sampled every millisecond. `largest` is the
largest tensor that changes. Asserts nothing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anonymous import Watch, anonymous
from peers.shapes import SHAPES, make_base

if TYPE_CHECKING:
    from torch import nn

    from budwood.engine.lora import Adapter
    from budwood.engine.quant import Form

FORMS = ("none", "nf4", "int8")
MEANT = {"none": "the weights as they are", "nf4": "4 bits, expanded", "int8": "8 bits, expanded"}


def main() -> None:
    options = _options()
    if options.base:
        print(json.dumps(_merge(Path(options.base), Path(options.adapter), options.onto)))
        return
    print("| onto | anonymous MB, most | largest MB | files MB | MB/s |")
    print("|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        base, adapter = Path(folder) / "base", Path(folder) / "adapter"
        make_base(SHAPES[options.shape], base)
        _make_adapter(base, adapter)
        for form in FORMS:
            command = [sys.executable, __file__, "--onto", form, "--base", str(base), "--adapter", str(adapter)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            print(
                f"| {MEANT[form]} | {found['most'] / 1e6:,.0f} | {found['largest'] / 1e6:,.1f} | {found['read'] / 1e6:,.0f} "
                f"| {found['read'] / found['seconds'] / 1e6:,.0f} |"
            )


def _merge(base: Path, adapter_folder: Path, onto: str) -> dict[str, float]:
    from budwood.engine.base import BaseRef, resolve_base, skeleton
    from budwood.engine.lora import load_adapter, merged_model_files
    from budwood.engine.weights import read_tensors, weight_files

    form: Form | None = "nf4" if onto == "nf4" else "int8" if onto == "int8" else None
    adapter = load_adapter(adapter_folder, skeleton(BaseRef(str(base), base, None)))
    with tempfile.TemporaryDirectory(dir=base.parent) as scratch:
        # What is measured next is the merge and not the libraries.
        bundled = resolve_base("seedling")
        merged_model_files(bundled.folder, _loud(skeleton(bundled)), Path(scratch) / "first", onto=form)
        before = anonymous()
        watch = Watch()
        begun = time.perf_counter()
        merged_model_files(base, adapter, Path(scratch) / "out", onto=form)
        seconds = time.perf_counter() - begun
        most = watch.end()
    entries = read_tensors(weight_files(base))
    sizes = {entry.name.removesuffix(".weight"): entry.end - entry.start for entry in entries}
    return {
        "most": most - before,
        "largest": max(sizes[path] for path in adapter.pairs),
        "read": sum(sizes.values()),
        "seconds": seconds,
    }


def _make_adapter(base: Path, folder: Path) -> None:
    from budwood.engine.base import BaseRef, skeleton
    from budwood.engine.lora import save_adapter

    save_adapter(_loud(skeleton(BaseRef(str(base), base, None))), folder, base_id="random", revision=None)


def _loud(model: "nn.Module") -> "Adapter":
    """An adapter whose B is not zero."""
    import torch

    from budwood.engine.lora import LoraConfig, new_adapter, target_paths

    fresh = new_adapter(model, LoraConfig(16, 32, targets=target_paths(model, "all-linear")), seed=0)
    pairs = {path: replace(pair, b=torch.full_like(pair.b, 0.01)) for path, pair in fresh.pairs.items()}
    return replace(fresh, pairs=pairs)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", default="0.5b", choices=sorted(SHAPES))
    parser.add_argument("--onto", default="none", choices=FORMS, help=argparse.SUPPRESS)
    parser.add_argument("--base", default="", help=argparse.SUPPRESS)
    parser.add_argument("--adapter", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
