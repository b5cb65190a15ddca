"""The LoRA linear as one autograd node: y = W x + b + scaling · B (A x), for runs of tokens with an adapter each.

The frozen weight never gets a gradient, and a 4-bit one is expanded again on the way back instead of being kept. Products
are ordered (x Aᵀ) Bᵀ: B A is never built. Saved for the way back: x (not a float copy of it), A, B, and x Aᵀ, which is
r / d_in of x and dearer to make again than to keep. float32 adapters over a bfloat16 base are cast, not x.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from budwood.engine.lora.frozen import Frozen


@dataclass(frozen=True)
class RunPair:
    """The pair that a run of tokens uses in this layer.

    Args:
        start: first token.
        end: one past the last; None: to the end.
        a: (r, d_in).
        b: (d_out, r).
        scaling: of the pair.
        mask: dropout on the run's x: (n, d_in), True = kept. None: no dropout.
        keep: share that is kept, whose inverse scales what is left.
        columns: of the result that it adds to, where the results of several layers lie side by side.
    """

    start: int
    end: int | None
    a: Tensor
    b: Tensor
    scaling: float
    mask: Tensor | None = None
    keep: float = 1.0
    columns: slice = field(default_factory=lambda: slice(None))  # unhashable before Python 3.12


def lora_product(x: Tensor, frozen: Frozen, runs: Sequence[RunPair]) -> Tensor:
    """Compute the layer with gradients for x, A and B.

    Args:
        x: (T, d_in), in the compute dtype.
        frozen: the base layer.
        runs: do not overlap; tokens in none of them get the base alone.

    Returns:
        (T, d_out) in x's dtype.

    Source: arXiv:2106.09685, section 4.1. Held to a float64 loop and to gradcheck by tests/engine/lora/test_product.py.
    """
    pairs = [tensor for run in runs for tensor in (run.a, run.b)]
    bare = [(run.start, run.end, run.scaling, run.mask, run.keep) for run in runs]
    return cast(Tensor, _LoraProduct.apply(x, frozen, bare, *pairs))  # type: ignore[no-untyped-call]  # torch has no types here


def add_run(y: Tensor, x: Tensor, a: Tensor, b: Tensor, scaling: float) -> None:
    """Add a run's share to y (n, d_out) in place, without gradients."""
    y.addmm_(x @ a.to(x.dtype).T, b.to(x.dtype).T, alpha=scaling)


class _LoraProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, frozen: Frozen, runs: list[Any], *pairs: Tensor) -> Tensor:
        y = frozen.product(x)
        inner = []
        for (start, end, scaling, mask, keep), a, b in zip(runs, pairs[::2], pairs[1::2], strict=True):
            h = _dropped(x[start:end], mask, keep) @ a.to(x.dtype).T
            y[start:end].addmm_(h, b.to(x.dtype).T, alpha=scaling)
            inner.append(h)
        ctx.save_for_backward(x, *pairs, *inner)
        ctx.frozen, ctx.runs = frozen, runs
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        count = len(ctx.runs)
        pairs, inner = saved[: 2 * count], saved[2 * count :]
        dx = ctx.frozen.back(gradient) if ctx.needs_input_grad[0] else None
        grads: list[Tensor | None] = []
        for index, (start, end, scaling, mask, keep) in enumerate(ctx.runs):
            a, b, h, g = pairs[2 * index], pairs[2 * index + 1], inner[index], gradient[start:end]
            needs_a, needs_b = ctx.needs_input_grad[3 + 2 * index : 5 + 2 * index]
            gb = (g @ b.to(g.dtype)).mul_(scaling) if needs_a or dx is not None else None  # (n, r)
            if dx is not None and gb is not None:
                _add_back(dx[start:end], gb, a, mask, keep)
            da = (gb.T @ _dropped(x[start:end], mask, keep)).to(a.dtype) if needs_a and gb is not None else None
            # hᵀ g, not gᵀ h: up to 1.6 times as fast with a narrow h.
            db = (h.T @ g).T.to(b.dtype).mul(scaling).contiguous() if needs_b else None
            grads += [da, db]
        return dx, None, None, *grads


def _dropped(x: Tensor, mask: Tensor | None, keep: float) -> Tensor:
    return x if mask is None else (x * mask).mul_(1 / keep)


def _add_back(dx: Tensor, gb: Tensor, a: Tensor, mask: Tensor | None, keep: float) -> None:
    if mask is None:
        dx.addmm_(gb, a.to(gb.dtype))
    else:
        dx.add_((gb @ a.to(gb.dtype)).mul_(mask).mul_(1 / keep))
