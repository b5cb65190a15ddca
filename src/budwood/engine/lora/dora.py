"""DoRA: a layer whose rows keep a length of their own, which is trained beside the direction.

    y = m / |W + s B A| ∘ (W + s B A) x + b        (|·|: the length of each row; a constant for the gradient)

The lengths are made without building W + s B A: |W|² + 2 s ⟨W A ᵀ, B⟩ + s² ⟨B A Aᵀ, B⟩, row by row.

Source: arXiv:2402.09353, section 4.3; held to peft by tests/engine/lora/test_dora.py.
"""

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from budwood.engine.lora.adapter import Adapter
from budwood.engine.lora.frozen import Frozen, dense_weight
from budwood.engine.lora.pairs import RunPair, add_pairs, back_to_input, back_to_pairs, read_pairs
from budwood.engine.lora.targets import linear_sites


def with_magnitudes(model: nn.Module, adapter: Adapter) -> Adapter:
    """Give a fresh adapter's pairs the lengths of their weights' rows, so that nothing is changed yet."""
    sites = linear_sites(model)
    pairs = {
        path: replace(pair, magnitude=_lengths(sites[path], pair.a, pair.b, pair.scaling))
        for path, pair in adapter.pairs.items()
    }
    return replace(adapter, pairs=pairs)


def row_scale(module: nn.Module, pair: RunPair, magnitude: Tensor) -> Tensor:
    """M / |W + s B A|: (d_out,) float32."""
    return magnitude.detach().float() / _lengths(module, pair.a, pair.b, pair.scaling)


def scaled_rows(y: Tensor, bias: Tensor | None, scale: Tensor) -> Tensor:
    """Scale a layer's result (n, d_out), but not the bias in it."""
    scale = scale.to(y.dtype)
    return y * scale if bias is None else (y - bias) * scale + bias


def dora_product(x: Tensor, frozen: Frozen, bias: Tensor | None, pair: RunPair, magnitude: Tensor, scale: Tensor) -> Tensor:
    """Compute the layer with gradients for x, A, B and the lengths.

    Args:
        x: (T, d_in), in the compute dtype.
        frozen: the base layer.
        bias: of it.
        pair: for all tokens, without dropout.
        magnitude: m, (d_out,).
        scale: `row_scale` of both.

    Returns:
        (T, d_out) in x's dtype.
    """
    given = (x, frozen, bias, pair, scale, pair.a, pair.b, magnitude)
    return cast(Tensor, _DoraProduct.apply(*given))  # type: ignore[no-untyped-call]  # torch has no types here


class _DoraProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, frozen: Frozen, bias: Tensor | None, pair: RunPair, scale: Tensor, *trained: Tensor
    ) -> Tensor:
        plain = frozen.product(x)
        if bias is not None:
            plain -= bias
        ctx.bundles = read_pairs(x, [pair])
        add_pairs(plain, ctx.bundles)
        ctx.save_for_backward(x, plain, scale, trained[2])
        ctx.frozen = frozen
        y = plain * scale.to(plain.dtype)
        return y if bias is None else y + bias

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, plain, scale, magnitude = ctx.saved_tensors
        # scale = m / length: what one unit of m adds to the result is the plain result over the length.
        by_length = scale / magnitude.float()
        of_magnitude = ((gradient.float() * plain.float()).sum(0) * by_length).to(magnitude.dtype)
        inner = gradient * scale.to(gradient.dtype)
        dx = ctx.frozen.back(inner) if ctx.needs_input_grad[0] else None
        outer = back_to_input(dx, inner, ctx.bundles)
        da, db = back_to_pairs(x, inner, ctx.bundles, outer)
        return dx, None, None, None, None, da, db, of_magnitude


def _lengths(module: nn.Module, a: Tensor, b: Tensor, scaling: float) -> Tensor:
    weight = dense_weight(module)
    a, b = a.detach().float().to(weight.device), b.detach().float().to(weight.device)
    cross = ((weight @ a.T) * b).sum(1)
    own = ((b @ (a @ a.T)) * b).sum(1)
    # Rounding may leave a length of nothing a hair below zero.
    return (weight.square().sum(1) + 2 * scaling * cross + scaling**2 * own).clamp_(min=0).sqrt_()
