"""A decoder layer of the Llama kind as one autograd node.

    x → norm → q, k, v → rotation → attention → output, + x → norm → gate, up → gated SiLU → down, + → y

Kept for the way back: x, the rotated q, k and v, attention's result and the logarithms of its sums, the sum after attention,
gate and up, and what the pairs need. Norms' results and the gated product are made again: that costs one reading of what is
there already.
"""

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from budwood.engine.fresh_memory import fresh_memory
from budwood.engine.fused.products import Products
from budwood.engine.lora.layer import LoraLinear
from budwood.engine.lora.pairs import Bundle, RunPair, back_to_pairs
from budwood.engine.native.attention import attention_backward, attention_forward
from budwood.engine.native.elementwise import gated_silu, gated_silu_back, rms_norm, rms_norm_back, rotate


@dataclass(frozen=True)
class Norm:
    weight: Tensor
    epsilon: float


@dataclass(frozen=True)
class Heads:
    """Attention's shape.

    Args:
        queries: query heads.
        keys: key heads, and value heads.
        width: of one.
        scale: factor on q·k.
        window: tokens that a token sees, itself included; 0: all.
        norms: of queries and keys, over a head's width; None: there are none.
    """

    queries: int
    keys: int
    width: int
    scale: float
    window: int
    norms: tuple[Norm, Norm] | None


class Buffers:
    """Memory that a model's layers write into in turn, by name; each buffer grows to the largest that was asked for.

    Fresh memory of these sizes comes from the system page by page, which costs a tenth of a step. What one pass kept is
    overwritten by the next, so a pass goes back before another that keeps goes forward; `check` holds on to that.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}
        self._turn = 0

    def take(self, name: str, like: Tensor, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Give a tensor of this shape with whatever is in it, of the dtype of `like` if no other is named."""
        size = math.prod(shape)
        wanted = dtype or like.dtype
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size or buffer.dtype != wanted:
            # The former one goes first: both at once would be the most that is ever held.
            buffer = None
            self._buffers.pop(name, None)
            with torch.inference_mode(False):
                buffer = self._buffers[name] = fresh_memory(size, wanted)
        return buffer[:size].view(shape)

    def turn(self, *, first: bool) -> int:
        """Number the passes that keep something."""
        self._turn += first
        return self._turn

    def check(self, turn: int) -> None:
        """Raise RuntimeError if another pass has overwritten what this one kept."""
        if turn != self._turn:
            raise RuntimeError("another forward pass has overwritten what this one kept: go backward before the next pass")


@dataclass(frozen=True)
class Parts:
    """What a decoder layer is made of.

    Args:
        index: of the layer.
        before: norm before attention.
        qkv: of attention.
        heads: its shape.
        output: of attention.
        between: norm before the second half.
        gate_up: of it.
        down: of it.
        buffers: that all layers of the model share.
        keep: what the way back needs; False: its input alone, the rest is made again.
    """

    index: int

    before: Norm
    qkv: Products
    heads: Heads
    output: Products
    between: Norm
    gate_up: Products
    down: Products
    buffers: Buffers
    keep: bool

    def layers(self) -> list[LoraLinear]:
        return [layer for products in (self.qkv, self.output, self.gate_up, self.down) for layer in products.layers]


@dataclass(frozen=True)
class Pass:
    """What all layers of one forward pass share.

    Args:
        cosine: (T, D) of the rotation.
        sine: (T, D).
        cu_seqlens: (S + 1,) int32.
        only: (N,) int64: tokens whose result is wanted; None: all. Of the last layer alone: all others need every token.
    """

    cosine: Tensor
    sine: Tensor
    cu_seqlens: Tensor
    only: Tensor | None = None

    def chosen(self, states: Tensor) -> Tensor:
        """(T, …) → (N, …)."""
        return states if self.only is None else states.index_select(0, self.only)


@dataclass(frozen=True)
class Pairs:
    """The pairs at work in a layer in one pass."""

    qkv: list[RunPair]
    output: list[RunPair]
    gate_up: list[RunPair]
    down: list[RunPair]

    def everywhere(self) -> bool:
        """Whether those after attention are for all tokens alike: then some tokens' results can be had without the others'."""
        after = (*self.output, *self.gate_up, *self.down)
        return all(pair.start == 0 and pair.end is None and pair.mask is None for pair in after)

    def tensors(self) -> list[Tensor]:
        return [tensor for pair in (*self.qkv, *self.output, *self.gate_up, *self.down) for tensor in (pair.a, pair.b)]


@dataclass(frozen=True)
class Kept:
    """What the way back needs beside the input, but for what the last product's pairs need."""

    qkv: Tensor
    rstd: Tensor
    head_rstd: Tensor | None
    attended: Tensor
    lse: Tensor
    between: Tensor
    between_rstd: Tensor
    gate_up: Tensor
    of_qkv: list[Bundle]
    of_output: list[Bundle]
    of_gate_up: list[Bundle]


def decoder_layer(x: Tensor, parts: Parts, shared: Pass, pairs: Pairs) -> Tensor:
    """Run a layer with gradients for x and the pairs.

    Args:
        x: (T, d) bfloat16 on the CPU, contiguous.
        parts: the layer.
        shared: rows and their rotation.
        pairs: beside its products.

    Returns:
        (T, d), or (N, d) where only some tokens' results are wanted.

    Source: held to the layer that it stands for, in float32 and from transformers, by tests/engine/fused.
    """
    return cast(Tensor, _DecoderLayer.apply(x, parts, shared, pairs, *pairs.tensors()))  # type: ignore[no-untyped-call]  # torch


class _DecoderLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, parts: Parts, shared: Pass, pairs: Pairs, *tensors: Tensor) -> Tensor:
        trained = any(ctx.needs_input_grad)
        kept = _until_down(x, parts, shared, pairs, f"{parts.index} " if trained and parts.keep else "")
        # Without a way back two buffers in turn are enough: a layer reads what the one before it wrote.
        y = parts.buffers.take(f"y {parts.index if trained else parts.index % 2 - 2}", x, *kept.between.shape)
        of_down = parts.down.forward(y, _gated(kept, parts), pairs.down, rest=kept.between)
        ctx.save_for_backward(x)
        ctx.parts, ctx.shared, ctx.pairs = parts, shared, pairs
        ctx.kept = (kept, of_down) if trained and parts.keep else None
        ctx.turn = parts.buffers.turn(first=parts.index == 0)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        parts: Parts = ctx.parts
        parts.buffers.check(ctx.turn)
        if ctx.kept is None:
            kept = _until_down(x, parts, ctx.shared, ctx.pairs, "")
            of_down = parts.down.read(_gated(kept, parts), ctx.pairs.down)
        else:
            kept, of_down = ctx.kept
        dx, grads = _backward(x, gradient.contiguous(), parts, ctx.shared, kept, of_down, ctx.needs_input_grad[0])
        return dx, None, None, None, *grads


def _until_down(x: Tensor, parts: Parts, shared: Pass, pairs: Pairs, prefix: str) -> Kept:
    """Go forward to gate and up; what is kept is written to buffers whose names begin with `prefix`."""
    tokens, width = x.shape
    heads, take = parts.heads, parts.buffers.take
    normed = take("normed", x, tokens, width)
    rstd = _norm(x, parts.before, normed)
    qkv = take(f"{prefix}qkv", x, tokens, parts.qkv.width)
    of_qkv = parts.qkv.forward(qkv, normed, pairs.qkv)
    q, k, v, head_rstd = _rotated(qkv, heads, shared, parts.buffers)
    attended = take(f"{prefix}attended", x, tokens, heads.queries, heads.width)
    lse = take(f"{prefix}lse", x, heads.queries, tokens, dtype=torch.float32)
    attention_forward(q, k, v, attended, lse, shared.cu_seqlens, scale=heads.scale, window=heads.window)
    wanted = shared.chosen(attended.view(tokens, -1))
    between = take(f"{prefix}between", x, len(wanted), width)
    of_output = parts.output.forward(between, wanted, pairs.output, rest=shared.chosen(x))
    normed = take("normed", x, len(wanted), width)
    between_rstd = _norm(between, parts.between, normed)
    gate_up = take(f"{prefix}gate_up", x, len(wanted), parts.gate_up.width)
    of_gate_up = parts.gate_up.forward(gate_up, normed, pairs.gate_up)
    return Kept(qkv, rstd, head_rstd, attended, lse, between, between_rstd, gate_up, of_qkv, of_output, of_gate_up)


def _gated(kept: Kept, parts: Parts) -> Tensor:
    tokens, width = kept.gate_up.shape
    gated = parts.buffers.take("gated", kept.gate_up, tokens, width // 2)
    gated_silu(kept.gate_up, gated)
    return gated


def _backward(
    x: Tensor, gradient: Tensor, parts: Parts, shared: Pass, kept: Kept, of_down: list[Bundle], needs_input: bool
) -> tuple[Tensor | None, list[Tensor | None]]:
    tokens, width = x.shape
    heads, take = parts.heads, parts.buffers.take
    wanted = len(kept.between)
    gated = take("gated", x, wanted, parts.gate_up.width // 2)
    outer = parts.down.back(gated, gradient, of_down)
    gated_silu_back(kept.gate_up, gated)
    grads_down = back_to_pairs(gated, gradient, of_down, outer)

    slope, normed = take("slope", x, wanted, width), take("normed", x, wanted, width)
    outer = parts.gate_up.back(slope, kept.gate_up, kept.of_gate_up)
    _norm_back(kept.between, parts.between, kept.between_rstd, slope, rest=gradient, again=normed)
    grads_gate_up = back_to_pairs(normed, kept.gate_up, kept.of_gate_up, outer)

    attended = shared.chosen(kept.attended.view(tokens, -1))
    of_attended = take("of attended", x, *attended.shape)
    outer = parts.output.back(of_attended, slope, kept.of_output)
    grads_output = back_to_pairs(attended, slope, kept.of_output, outer)

    if shared.only is not None:
        of_attended = _spread(of_attended, shared.only, take("spread attended", x, tokens, attended.shape[1]))
        slope = _spread(slope, shared.only, take("spread slope", x, tokens, width))
    normed = take("normed", x, tokens, width)
    joint = _attention_back(kept, of_attended.view_as(kept.attended), heads, shared, parts.buffers)
    # Two in turn: the layer below reads this one while it writes its own.
    dx = take(f"dx {parts.index % 2}", x, tokens, width) if needs_input else None
    outer = parts.qkv.back(dx, joint, kept.of_qkv)
    if dx is not None:
        _norm_back(x, parts.before, kept.rstd, dx, rest=slope, again=normed)
    else:
        _norm(x, parts.before, normed)
    grads_qkv = back_to_pairs(normed, joint, kept.of_qkv, outer)
    return dx, [*grads_qkv, *grads_output, *grads_gate_up, *grads_down]


def _spread(states: Tensor, only: Tensor, out: Tensor) -> Tensor:
    """(N, …) → (T, …) in `out`, zeros where no result was wanted."""
    return out.zero_().index_copy_(0, only, states)


def _norm(x: Tensor, norm: Norm, out: Tensor) -> Tensor:
    """Norm over whole tokens; gives rstd (T, 1)."""
    rstd = torch.empty(len(x), 1)
    rms_norm(x[:, None], norm.weight, out[:, None], rstd, epsilon=norm.epsilon)
    return rstd


def _norm_back(x: Tensor, norm: Norm, rstd: Tensor, slope: Tensor, *, rest: Tensor, again: Tensor) -> None:
    """Turn the gradient of the norm's result into that of x, in place, with what came around the norm."""
    rms_norm_back(x[:, None], norm.weight, rstd, slope[:, None], slope[:, None], rest=rest, again=again)


def _by_head(joint: Tensor, heads: Heads) -> list[Tensor]:
    """q, k and v of (T, width) as (T, heads, D) views."""
    states = joint.view(len(joint), -1, heads.width)
    return list(torch.split(states, [heads.queries, heads.keys, heads.keys], dim=1))


def _rotating(joint: Tensor, heads: Heads) -> Tensor:
    """Both that are rotated: (T, query heads + key heads, D)."""
    return joint.view(len(joint), -1, heads.width)[:, : heads.queries + heads.keys]


def _rotated(qkv: Tensor, heads: Heads, shared: Pass, buffers: Buffers) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Rotate q and k: in place, or, where norms of their own come first, in a buffer, so that the norms' inputs stay."""
    q, k, v = _by_head(qkv, heads)
    if heads.norms is None:
        rotate(_rotating(qkv, heads), shared.cosine, shared.sine)
        return q, k, v, None
    rstd = torch.empty(heads.queries + heads.keys, len(qkv))
    q, k = _normed(qkv, heads, heads.norms, rstd, shared, buffers)
    return q, k, v, rstd


def _normed(
    qkv: Tensor, heads: Heads, norms: tuple[Norm, Norm], rstd: Tensor, shared: Pass, buffers: Buffers
) -> tuple[Tensor, Tensor]:
    """Give q and k after their norms, rotated, in a buffer."""
    turned = buffers.take("turned", qkv, len(qkv), heads.queries + heads.keys, heads.width)
    sides = turned[:, : heads.queries], turned[:, heads.queries :]
    for states, norm, side, part in zip(_by_head(qkv, heads), norms, sides, _parted(rstd, heads), strict=False):
        rms_norm(states, norm.weight, side, part, epsilon=norm.epsilon)
    rotate(turned, shared.cosine, shared.sine)
    return sides


def _parted(rstd: Tensor, heads: Heads) -> list[Tensor]:
    """(T, query heads) and (T, key heads), one behind the other in one tensor."""
    tokens = rstd.shape[1]
    parts = torch.split(rstd.view(-1), [heads.queries * tokens, heads.keys * tokens])
    return [part.view(tokens, -1) for part in parts]


def _attention_back(kept: Kept, gradient: Tensor, heads: Heads, shared: Pass, buffers: Buffers) -> Tensor:
    """Give the gradient of the joint q, k and v, (T, width), in a buffer."""
    made = buffers.take("of qkv", kept.qkv, *kept.qkv.shape)
    parts = _by_head(made, heads)
    q, k, v = _by_head(kept.qkv, heads)
    if heads.norms is None or kept.head_rstd is None:
        asked, keys = q, k
    else:
        asked, keys = _normed(kept.qkv, heads, heads.norms, kept.head_rstd, shared, buffers)
    rows = shared.cu_seqlens
    attention_backward(asked, keys, v, kept.attended, gradient, kept.lse, parts, rows, scale=heads.scale, window=heads.window)
    rotate(_rotating(made, heads), shared.cosine, shared.sine, back=True)
    if heads.norms is not None and kept.head_rstd is not None:
        for states, norm, slope, rstd in zip((q, k), heads.norms, parts, _parted(kept.head_rstd, heads), strict=False):
            rms_norm_back(states, norm.weight, rstd, slope, slope)
    return made
