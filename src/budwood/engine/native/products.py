"""Products of frozen weights with an adapter's pairs beside them, in C with AMX: what `fused/products.py` calls where it runs.

    y = x Wᵀ + h Bᵀ + rest + bias with h = x Aᵀ;   back: dx = g W + h A + rest with h = g B

Sums are float32 and each result is rounded once. Held to float64 by tests/engine/native.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from budwood.engine.native.build import call, no_tiles


@dataclass(frozen=True)
class Beside:
    """A pair beside the weights.

    Args:
        a: (R, d_in), contiguous.
        b: (d_out, R), contiguous; scaled.
        h: (T, R), filled.
    """

    a: Tensor
    b: Tensor
    h: Tensor


def multiplies(*tensors: Tensor) -> bool:
    """Whether the kernel takes these: bfloat16 on a CPU that multiplies tiles, numbers of a row side by side."""
    fitting = all(t.device.type == "cpu" and t.dtype == torch.bfloat16 and t.stride(-1) == 1 for t in tensors)
    return fitting and no_tiles() is None


def product(
    y: Tensor,
    x: Tensor,
    weights: Sequence[Tensor],
    *,
    back: bool = False,
    pair: Beside | None = None,
    rest: Tensor | None = None,
    bias: Tensor | None = None,
) -> None:
    """Fill y, and what the pair keeps.

    Args:
        y: (T, d_out), the layers' results side by side; back: (T, d_in).
        x: (T, d_in); back: (T, d_out).
        weights: (d_out of the layer, d_in) each, contiguous.
        back: multiply with the weights as they are, not transposed.
        pair: adds to y.
        rest: as y, and may be y.
        bias: (d_out,).
    """
    a, b, h = (None, None, None) if pair is None else (pair.a, pair.b, pair.h)
    whole = [tensor for tensor in (*weights, a, b, bias) if tensor is not None]
    assert multiplies(y, x, *whole, *(tensor for tensor in (h, rest) if tensor is not None))
    assert all(tensor.is_contiguous() for tensor in whole)
    d_in, d_out = weights[0].shape[1], sum(map(len, weights))
    assert (x.shape[1], y.shape[1]) == ((d_out, d_in) if back else (d_in, d_out))
    table = torch.tensor([[weight.data_ptr(), len(weight)] for weight in weights])
    strides = [x.stride(0), 0 if rest is None else rest.stride(0), 0 if h is None else h.stride(0), y.stride(0)]
    sizes = [len(x), d_in, d_out, 0 if a is None else len(a), len(weights), int(back)]
    call("budwood_product_amx", x, table, a, b, rest, bias, h, y, *sizes, *strides)


def pair_gradient(h: Tensor, x: Tensor, *, transposed: bool = False) -> Tensor:
    """Give hᵀ x in float32: (T, R) and (T, N) → (R, N), or (N, R)."""
    tokens, ranks, width = len(x), h.shape[1], x.shape[1]
    out = torch.empty((width, ranks) if transposed else (ranks, width), dtype=torch.float32)
    call("budwood_pair_gradient_amx", h, x, out, tokens, ranks, width, int(transposed), h.stride(0), x.stride(0))
    return out
