"""Attention of short rows as plain batched products, its scores made again in the backward pass.

For what torch's own kernels do badly on a CPU: many short rows in half precision, and soft caps, which they do not have.
Nothing but q, k and v is kept for the backward pass. Measured forward and backward, CPU time of one busy core, median of 9,
rows of 4,000 tokens together, 4 heads of 64: in bf16, rows of 50 to 110 tokens 79 ms (kernel) against 37 ms (here), of 200
to 256 tokens 117 against 111, of 500 to 600 tokens 163 against 207; in float32 no faster than the kernel.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from budwood.engine.packed import Layout

BLOCK = 1 << 18
"""Scores that are alive at once, in numbers: about what fits beside its operands in a core's second-level cache."""
GPU_BLOCK = 1 << 24
"""The same on a GPU, where launches cost more than memory."""


def product_attention(
    q: Tensor, k: Tensor, v: Tensor, layout: Layout, *, scale: float, softcap: float | None, window: int | None
) -> Tensor:
    """Attend causally inside each row.

    Args:
        q: (T, heads, D).
        k: (T, kv_heads, D), heads a multiple of kv_heads.
        v: (T, kv_heads, D), of one dtype with q and k.
        layout: the rows.
        scale: factor on q·k.
        softcap: scores become softcap · tanh(score / softcap).
        window: a token sees itself and the window - 1 before it; None: all.

    Returns:
        (T, heads, D).

    Source: held to a float64 loop, gradients by gradcheck, in tests/engine/test_attention.py.
    """
    apply: Callable[..., Tensor] = _ProductAttention.apply
    return apply(q, k, v, layout, scale, softcap, window)


class _ProductAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float, softcap: float | None, window: int | None
    ) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.blocks = _Blocks(layout, q, k.shape[1], scale, softcap, window)
        laid = torch.empty(len(layout.gather), *q.shape[1:], dtype=q.dtype, device=q.device)
        with torch.autocast(q.device.type, enabled=False):
            for block in ctx.blocks:
                weights, _ = block.weights(block.take(q), block.take(k))
                laid[block.places] = block.give(weights.to(q.dtype) @ block.take(v))
        return laid.index_select(0, layout.inverse)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        q, k, v = ctx.saved_tensors
        blocks: _Blocks = ctx.blocks
        laid = [torch.empty(len(blocks.layout.gather), *x.shape[1:], dtype=x.dtype, device=x.device) for x in (q, k, v)]
        with torch.autocast(q.device.type, enabled=False):
            for block in blocks:
                queries, keys, values, grad = block.take(q), block.take(k), block.take(v), block.take_grad(grads[0])
                weights, capped = block.weights(queries, keys)
                slope = torch.ops.aten._softmax_backward_data(
                    (grad @ values.transpose(1, 2)).to(weights.dtype), weights, -1, weights.dtype
                )
                if capped is not None and blocks.softcap is not None:
                    slope *= 1 - (capped / blocks.softcap).square_()
                slope = (slope * blocks.scale).to(q.dtype)
                laid[0][block.places] = block.give(slope @ keys)
                laid[1][block.places] = block.give(slope.transpose(1, 2) @ queries)
                laid[2][block.places] = block.give(weights.to(q.dtype).transpose(1, 2) @ grad)
        dq, dk, dv = (gradient.index_select(0, blocks.layout.inverse) for gradient in laid)
        return dq, dk, dv, None, None, None, None


class _Blocks:
    """The rectangles of a layout, cut so that a block's scores stay small."""

    def __init__(
        self, layout: Layout, q: Tensor, kv_heads: int, scale: float, softcap: float | None, window: int | None
    ) -> None:
        self.layout = layout
        self.heads = q.shape[1]
        self.kv_heads = kv_heads
        self.scale = scale
        self.softcap = softcap
        self._window = window
        self._wide = torch.float64 if q.dtype == torch.float64 else torch.float32
        self._like = q.detach()[:0]
        self._block = GPU_BLOCK if q.device.type == "cuda" else BLOCK
        self._hidden: dict[int, Tensor] = {}

    def __iter__(self) -> Iterator["_Block"]:
        offset = 0
        for rows, longest in self.layout.shapes:
            step = max(1, self._block // (self.heads * longest * longest))
            for start in range(0, rows, step):
                yield _Block(self, offset + start * longest, min(step, rows - start), longest)
            offset += rows * longest

    def hidden(self, length: int) -> Tensor:
        """(heads a key head · length, length): 0 where a token looks, -inf where it may not. Made once a length."""
        if length not in self._hidden:
            place = torch.arange(length, device=self._like.device)
            distance = place[:, None] - place
            unseen = distance < 0 if self._window is None else (distance < 0) | (distance >= self._window)
            mask = self._like.new_zeros(length, length).masked_fill_(unseen, float("-inf"))
            self._hidden[length] = mask.repeat(self.heads // self.kv_heads, 1)
        return self._hidden[length]

    def softmax(self, scores: Tensor) -> Tensor:
        return torch.softmax(scores, -1, dtype=self._wide)


class _Block:
    """`rows` rows of `length` places from place `start` on. Query heads that share a key head are rows of one product."""

    def __init__(self, blocks: _Blocks, start: int, rows: int, length: int) -> None:
        self._all = blocks
        self._shape = (rows, length)
        self.places = slice(start, start + rows * length)

    def take(self, states: Tensor) -> Tensor:
        """(T, H, D) → (rows · kv_heads, H / kv_heads · length, D)."""
        return self._fold(states.index_select(0, self._all.layout.gather[self.places]))

    def take_grad(self, grad: Tensor) -> Tensor:
        """As `take`; nothing comes back from what hangs over the end of a row."""
        laid = grad.index_select(0, self._all.layout.gather[self.places])
        if self._all.layout.overhang is not None:
            laid.masked_fill_(self._all.layout.overhang[self.places, None, None], 0)
        return self._fold(laid)

    def give(self, folded: Tensor) -> Tensor:
        """Undo `take`'s folding: (rows · length, H, D)."""
        rows, length = self._shape
        apart = folded.view(rows, self._all.kv_heads, -1, length, folded.shape[-1])
        return apart.permute(0, 3, 1, 2, 4).reshape(rows * length, -1, folded.shape[-1])

    def weights(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor | None]:
        """Softmax over what each token sees, in float32 (float64 for float64); and the capped scores, if they are capped."""
        blocks = self._all
        hidden = blocks.hidden(self._shape[1])
        if blocks.softcap is None:
            return blocks.softmax(torch.baddbmm(hidden[None], queries, keys.transpose(1, 2), alpha=blocks.scale)), None
        capped = torch.tanh((queries @ keys.transpose(1, 2)) * (blocks.scale / blocks.softcap)) * blocks.softcap
        return blocks.softmax(capped + hidden), capped

    def _fold(self, laid: Tensor) -> Tensor:
        rows, length = self._shape
        kv_heads, width = self._all.kv_heads, laid.shape[-1]
        return laid.view(rows, length, kv_heads, -1, width).permute(0, 2, 3, 1, 4).reshape(rows * kv_heads, -1, width)
