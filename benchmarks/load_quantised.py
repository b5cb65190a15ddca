"""Memory and speed of loading a base in 4 and 8 bits: anonymous memory above the imported libraries, bf16 bytes a second.

    python benchmarks/load_quantised.py [--shape 0.5b]

A base with random weights is written to a temporary folder; each loading is a process of its own whose anonymous memory is
sampled every millisecond. `bound` is the quantised model plus the two largest tensors. The digest of the weights is known
beforehand, as in every command after the first look at a base. Asserts nothing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anonymous import Watch, anonymous
from peers.shapes import SHAPES, make_base

if TYPE_CHECKING:
    from budwood.engine.base import Quantization

FORMS = ("nf4", "int8", "none")


def main() -> None:
    options = _options()
    if options.form:
        print(json.dumps(_load(Path(options.base), options.form)))
        return
    print("| form | anonymous MB, most | bound MB | after | MB/s of bf16 | bytes a weight of the linears |")
    print("|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        make_base(SHAPES[options.shape], Path(folder))
        for form in FORMS:
            command = [sys.executable, __file__, "--form", form, "--base", folder]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            print(
                f"| {form} | {found['most'] / 1e6:,.0f} | {found['bound'] / 1e6:,.0f} | {found['after'] / 1e6:,.0f} "
                f"| {found['read'] / found['seconds'] / 1e6:,.0f} | {found['per_weight']:.4f} |"
            )


def _load(folder: Path, form: "Quantization") -> dict[str, float]:
    import torch

    from budwood.engine.base import BaseRef, identify_base, load_base
    from budwood.engine.quant import QuantizedLinear
    from budwood.engine.weights import read_tensors, weight_files

    ref = BaseRef(str(folder), folder, None)
    known = identify_base(ref)
    _import_what_loading_imports()
    before = anonymous()
    watch = Watch()
    begun = time.perf_counter()
    model = load_base(ref, dtype=torch.bfloat16, quantization=form, identity=known).model
    seconds = time.perf_counter() - begun
    most = watch.end()
    sizes = [entry.end - entry.start for entry in read_tensors(weight_files(folder))]
    tensors = {tensor.data_ptr(): tensor for tensor in (*model.parameters(), *model.buffers())}
    quantised = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    layers = [module for module in model.modules() if isinstance(module, QuantizedLinear)]
    weights = sum(layer.in_features * layer.out_features for layer in layers)
    return {
        "most": most - before,
        "after": anonymous() - before,
        "bound": quantised + sum(sorted(sizes)[-2:]),
        "read": sum(sizes),
        "seconds": seconds,
        "per_weight": sum(layer.quantized.size_bytes for layer in layers) / weights if weights else 2.0,
    }


def _import_what_loading_imports() -> None:
    """Load the bundled base in each form, so that what is measured next is the weights and not the libraries."""
    import torch

    from budwood.engine.base import load_base, resolve_base

    for form in ("nf4", "int8", "none"):
        load_base(resolve_base("seedling"), dtype=torch.bfloat16, quantization=form)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", default="0.5b", choices=sorted(SHAPES))
    parser.add_argument("--form", default="", help=argparse.SUPPRESS)
    parser.add_argument("--base", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
