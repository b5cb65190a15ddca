"""Attention over packed rows in bfloat16, forward and backward: our ways beside torch's kernel row by row, in turn in one run.

    python benchmarks/attention_speed.py [--threads 2] [--rounds 7]

Milliseconds, medians. Shapes of a 135M Llama: 9 heads of 64, 3 key heads. Both C kernels where the processor has AMX.
Asserts nothing.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F

from budwood.engine.attention_products import product_attention
from budwood.engine.native import attention as native
from budwood.engine.native.build import Missing, kernels, no_tiles
from budwood.engine.packed import Encoded, pack

LENGTHS = ([190] * 8, [60, 80, 100, 120, 150, 240, 310, 440], [1500], [1024] * 4, [4096])
SCALE = 64**-0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name, found in (("C kernels", kernels()), ("tiles", no_tiles())):
        if isinstance(found, Missing):
            print(f"No {name} here: {found.reason}")
    print("| rows | C, AMX | C, AVX512 | products | torch |\n|---|---:|---:|---:|---:|")
    for lengths in LENGTHS:
        times = measure(lengths, options.rounds)
        print(
            f"| {lengths} | " + " | ".join(f"{statistics.median(one):.1f}" if one else "-" for one in times) + " |", flush=True
        )


def measure(lengths: list[int], rounds: int) -> list[list[float]]:
    """Times of each way, taken in turn, after one round that is not counted."""
    layout = pack([Encoded((1,) * length, (False,) * length) for length in lengths]).layout
    q, k, v = (torch.randn(sum(lengths), heads, 64).bfloat16().requires_grad_() for heads in (9, 3, 3))
    weight = torch.randn(q.shape).bfloat16()

    def by_row(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        outs = []
        for row in zip(*(torch.split(states, lengths) for states in (q, k, v)), strict=True):
            queries, keys, values = (states.transpose(0, 1)[None] for states in row)
            outs.append(F.scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=True))
        return torch.cat([out[0].transpose(0, 1) for out in outs])

    def in_c(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return native.native_attention(q, k, v, layout.cu_seqlens, scale=SCALE, window=None)

    def with_avx512(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return in_c(q, k, v)

    ways: list[Callable[[Tensor, Tensor, Tensor], Tensor] | None] = [
        in_c if no_tiles() is None else None,
        with_avx512 if not isinstance(kernels(), Missing) else None,
        lambda q, k, v: product_attention(q, k, v, layout, scale=SCALE, softcap=None, window=None),
        by_row,
    ]
    times: list[list[float]] = [[] for _ in ways]
    for number in range(rounds + 1):
        for way, taken in zip(ways, times, strict=True):
            if way is None:
                continue
            with patch.object(native, "no_tiles", lambda: Missing("not asked for")) if way is with_avx512 else nullcontext():
                began = time.perf_counter()
                torch.autograd.grad(way(q, k, v), (q, k, v), weight)
                if number:
                    taken.append(1e3 * (time.perf_counter() - began))
    return times


if __name__ == "__main__":
    main()
