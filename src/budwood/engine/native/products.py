"""Products of frozen weights with an adapter's pairs beside them, in C: what `fused/products.py` calls where it runs.

That is with AMX, and with AVX2 alone, where torch multiplies bfloat16 several times more slowly than float32. With
AVX512_BF16 torch's own products are as fast as any.

    y = x Wᵀ + h Bᵀ + rest + bias with h = x Aᵀ;   back: dx = g W + h A + rest with h = g B

Sums are float32 and each result is rounded once. Held to float64 by tests/engine/native.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from budwood.engine.native.build import call, no_tiles, widens


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
    """Whether a kernel takes these: bfloat16, numbers of a row side by side, on a CPU for which there is one."""
    fitting = all(t.device.type == "cpu" and t.dtype == torch.bfloat16 and t.stride(-1) == 1 for t in tensors)
    return fitting and (no_tiles() is None or widens())


def _kernel(name: str) -> str:
    return f"budwood_{name}_" + ("avx2" if widens() else "amx")


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
    assert y.shape[1] > 0  # the kernels share columns out, and divide by their number
    table = torch.tensor([[weight.data_ptr(), len(weight)] for weight in weights])
    strides = [x.stride(0), 0 if rest is None else rest.stride(0), 0 if h is None else h.stride(0), y.stride(0)]
    sizes = [len(x), d_in, d_out, 0 if a is None else len(a), len(weights), int(back)]
    call(_kernel("product"), x, table, a, b, rest, bias, h, y, *sizes, *strides)


def multiply(x: Tensor, weight: Tensor, *, back: bool = False, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """Give x Wᵀ, or back x W, plus the bias: by torch, or by the kernel where torch is slow and no gradient is wanted.

    Args:
        x: (T, d_in); back: (T, d_out).
        weight: (d_out, d_in), or a view of one that lies the other way round.
        back: multiply with the weight as it is.
        bias: of the result's width.
        out: filled, if it is given.
    """
    if not weight.is_contiguous():
        weight, back = weight.T, not back
    tracked = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if tracked or not widens() or not weight.numel() or not weight.is_contiguous() or not multiplies(x, weight):
        matrix = weight if back else weight.T
        return torch.mm(x, matrix, out=out) if bias is None else torch.addmm(bias, x, matrix, out=out)
    y = x.new_empty(len(x), weight.shape[1 if back else 0]) if out is None else out
    product(y, x, [weight], back=back, bias=bias)
    return y


def pair_gradient(h: Tensor, x: Tensor, *, transposed: bool = False) -> Tensor:
    """Give hᵀ x in float32: (T, R) and (T, N) → (R, N), or (N, R)."""
    tokens, ranks, width = len(x), h.shape[1], x.shape[1]
    out = torch.empty((width, ranks) if transposed else (ranks, width), dtype=torch.float32)
    call(_kernel("pair_gradient"), h, x, out, tokens, ranks, width, int(transposed), h.stride(0), x.stride(0))
    return out
