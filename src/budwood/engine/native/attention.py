"""Attention over packed rows through a C kernel, as one autograd node: with the best of AMX, AVX512 and AVX2.

Kept for the way back: q, k, v, the result and one float32 a query. Held to a float64 loop by tests/engine/native.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from budwood.engine.native.build import call, no_tiles, widens

LANES = 32
"""A head's width must be a multiple of it."""


def fits(q: Tensor, softcap: float | None) -> bool:
    """Whether this kernel computes that: bfloat16 on a CPU, no soft cap, heads of a width that the lanes divide."""
    return q.device.type == "cpu" and q.dtype == torch.bfloat16 and softcap is None and q.shape[-1] % LANES == 0


def native_attention(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, *, scale: float, window: int | None) -> Tensor:
    """Attend causally inside each row.

    Args:
        q: (T, heads, D) bfloat16; `fits` holds.
        k: (T, kv_heads, D), heads a multiple of kv_heads.
        v: as k.
        cu_seqlens: (S + 1,) int32 on the CPU, from 0 to T.
        scale: factor on q·k.
        window: a token sees itself and the window - 1 before it; None: all.

    Returns:
        (T, heads, D).

    Raises:
        MemoryError: no room for the scratch of its threads.
        RuntimeError: there are no kernels here; ask `kernels` first.
    """
    apply: Callable[..., Tensor] = _NativeAttention.apply
    return apply(q, k, v, cu_seqlens, scale, window or 0)


def attention_forward(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, cu_seqlens: Tensor, *, scale: float, window: int
) -> None:
    """Fill `out` (T, heads, D) and `lse` (heads, T), the logarithms of the sums. A token's heads lie side by side.

    `window` is 0 for none.
    """
    strides = [states.stride(0) for states in (q, k, v, out)]
    sizes = _sizes(cu_seqlens, q, k)
    # The kernels add the window to positions of 32 bits; one beyond all tokens is none.
    call(_kernel("forward"), q, k, v, out, lse, cu_seqlens, *sizes, *strides, len(q), float(scale), min(window, len(q)))


def attention_backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    grad: Tensor,
    lse: Tensor,
    made: Sequence[Tensor],
    cu_seqlens: Tensor,
    *,
    scale: float,
    window: int,
) -> None:
    """Fill `made`, the gradients of q, k and v, from `grad`, that of `out`."""
    strides = [states.stride(0) for states in (q, k, v, out, grad, *made)]
    sizes = _sizes(cu_seqlens, q, k)
    tensors = [q, k, v, out, grad, lse, *made, cu_seqlens]
    call(_kernel("backward"), *tensors, *sizes, *strides, len(q), float(scale), min(window, len(q)))


def attention_kernel() -> str:
    """Name the kernel that runs here for a run's record: they round differently."""
    if widens():
        return "native, AVX2"
    return "native" if no_tiles() else "native, AMX"


def _kernel(direction: str) -> str:
    return f"budwood_attention_{direction}" + ("" if no_tiles() else "_amx")


class _NativeAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, scale: float, window: int) -> Tensor:
        q, k, v = (_by_token(states) for states in (q, k, v))
        out = torch.empty(q.shape, dtype=q.dtype)
        lse = torch.empty(q.shape[1], q.shape[0], dtype=torch.float32)
        attention_forward(q, k, v, out, lse, cu_seqlens, scale=scale, window=window)
        ctx.save_for_backward(q, k, v, out, lse, cu_seqlens)
        ctx.settings = (scale, window)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse, cu_seqlens = ctx.saved_tensors
        grad = _by_token(grads[0])
        made = [torch.empty(states.shape, dtype=states.dtype) for states in (q, k, v)]
        scale, window = ctx.settings
        attention_backward(q, k, v, out, grad, lse, made, cu_seqlens, scale=scale, window=window)
        return (*made, None, None, None)


def _by_token(states: Tensor) -> Tensor:
    """Leave (T, H, D) as it lies if only its tokens are apart from each other; heads must lie side by side."""
    packed = states.stride(2) == 1 and states.stride(1) == states.shape[2]
    return states if packed else states.contiguous()


def _sizes(cu_seqlens: Tensor, q: Tensor, k: Tensor) -> list[int]:
    return [len(cu_seqlens) - 1, q.shape[1], k.shape[1], q.shape[2]]
