"""The LoRA linear as one autograd node: y = W x + b + scaling · B (A x), for runs of tokens with an adapter each.

The frozen weight never gets a gradient, and a quantised one is expanded again on the way back instead of being kept. Products
are ordered (x Aᵀ) Bᵀ: B A is never built. Saved for the way back: x (not a float copy of it) and what `pairs` keeps. float32
adapters over a bfloat16 base are cast, not x.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from budwood.engine.lora.frozen import Frozen
from budwood.engine.lora.pairs import RunPair, add_pairs, back_to_input, back_to_pairs, read_pairs


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
    return cast(Tensor, _LoraProduct.apply(x, frozen, runs, *pairs))  # type: ignore[no-untyped-call]  # torch has no types here


def add_run(y: Tensor, x: Tensor, a: Tensor, b: Tensor, scaling: float) -> None:
    """Add a run's share to y (n, d_out) in place, without gradients."""
    y.addmm_(x @ a.to(x.dtype).T, b.to(x.dtype).T, alpha=scaling)


class _LoraProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, frozen: Frozen, runs: Sequence[RunPair], *pairs: Tensor) -> Tensor:
        y = frozen.product(x)
        ctx.bundles = read_pairs(x, runs)
        add_pairs(y, ctx.bundles)
        ctx.save_for_backward(x)
        ctx.frozen = frozen
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        dx = ctx.frozen.back(gradient) if ctx.needs_input_grad[0] else None
        outer = back_to_input(dx, gradient, ctx.bundles)
        return dx, None, None, *back_to_pairs(x, gradient, ctx.bundles, outer)
