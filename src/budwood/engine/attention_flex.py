"""Attention over packed rows as FlexAttention takes it: which pairs of tokens are seen, block by block, and the soft cap.

Which blocks are seen follows from where rows begin, in closed form and on the device: nothing of size T x T is made, and the
processor does not wait. Made once a pass and window, kept with the rows.
"""

import inspect
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from budwood.engine.packed import Layout

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

BLOCK = 128
EVERYTHING = 1 << 30
"""A window that no row reaches."""
RECOMPILES = 64
"""More than there are kinds of states, with and without gradients, caps and numbers of blocks that are not symbols."""

MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def flex_attend(
    q: Tensor, k: Tensor, v: Tensor, layout: Layout, *, scale: float, softcap: float | None, window: int | None
) -> Tensor:
    """Attend causally inside each row: q (T, heads, D), k and v (T, kv_heads, D) → (T, heads, D)."""
    attend = _compiled()
    states = [state.transpose(0, 1)[None] for state in (q, k, v)]
    mask = _mask(layout, window)
    score = None if softcap is None else soft_cap(softcap)
    out: Tensor = attend(*states, score_mod=score, block_mask=mask, scale=scale, enable_gqa=q.shape[1] != k.shape[1])
    return out[0].transpose(0, 1)


def visible(rows: Tensor, window: Tensor) -> MaskMod:
    """Say which key a query sees: of its own row, not after it, inside the window.

    Args:
        rows: (T,) which row each token is of.
        window: () tokens that a token sees, itself included. A tensor, so that all windows share one compiled kernel.
    """

    def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (rows[query] == rows[key]) & (query >= key) & (query - key < window)

    return seen


def soft_cap(cap: float) -> ScoreMod:
    """Scores become cap · tanh(score / cap)."""

    def capped(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return cap * torch.tanh(score / cap)

    return capped


def row_of_tokens(cu_seqlens: Tensor, tokens: int) -> Tensor:
    """(T,) int32: which row each token is of."""
    places = torch.arange(tokens, dtype=cu_seqlens.dtype, device=cu_seqlens.device)
    return torch.searchsorted(cu_seqlens, places, right=True, out_int32=True) - 1


def block_mask(cu_seqlens: Tensor, tokens: int, window: int | None) -> "BlockMask":
    """Make FlexAttention's mask for rows laid end to end.

    Of two blocks the nearest pair (first query, last key) says whether anything is seen, the farthest pair (last query, first
    key) whether everything is: rows are contiguous. Held to `create_block_mask` by tests/engine/test_attention_kernels.py.
    """
    from torch.nn.attention.flex_attention import BlockMask

    device = cu_seqlens.device
    rows = row_of_tokens(cu_seqlens, tokens)
    reach = EVERYTHING if window is None else window
    first = torch.arange(0, tokens, BLOCK, device=device)
    last = (first + BLOCK - 1).clamp_(max=tokens - 1)
    below = first[:, None] > first
    near = below & (rows[first][:, None] == rows[last]) & (first[:, None] - last < reach)
    whole = below & (rows[last][:, None] == rows[first]) & (last[:, None] - first < reach)
    # A last block that is not full is looked at pair by pair.
    whole &= (last[:, None] - first[:, None] == BLOCK - 1) & (last - first == BLOCK - 1)
    partly = (near & ~whole) | torch.eye(len(first), dtype=torch.bool, device=device)
    return BlockMask.from_kv_blocks(
        *_listed(partly),
        *_listed(whole),
        BLOCK_SIZE=BLOCK,
        mask_mod=visible(rows, torch.full((), reach, dtype=torch.int32, device=device)),
        seq_lengths=(tokens, tokens),
    )


def _mask(layout: Layout, window: int | None) -> "BlockMask":
    key = ("block mask", window)
    if key not in layout.made:
        layout.made[key] = block_mask(layout.cu_seqlens, len(layout.inverse), window)
    made: BlockMask = layout.made[key]
    return made


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """(n, n) bool → how many of each row, and which, those that count first: (1, 1, n) and (1, 1, n, n) int32."""
    order = torch.argsort(blocks.to(torch.int32), dim=1, descending=True, stable=True)
    return blocks.sum(dim=1, dtype=torch.int32)[None, None], order.to(torch.int32)[None, None]


@cache
def _compiled() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    limit: dict[str, Any] = {}
    if "recompile_limit" in inspect.signature(torch.compile).parameters:
        # Past torch's limit it would go on uncompiled, with all scores written out, and say so nowhere.
        limit = {"recompile_limit": RECOMPILES}
    return torch.compile(flex_attention, dynamic=True, **limit)
