"""Attention over packed rows, and the seam for generation, behind transformers' attention interface.

Registered under the name "budwood" when a base is loaded. Two ways, told apart by what is passed through the model's
forward: `layout` (packed rows, training and scoring) or `kv` (generation: an object that holds earlier keys and values).
In bfloat16 on a CPU packed rows go through a kernel of our own where this machine can compile and run it (`native/`), else
through plain products or torch's kernels; on a GPU through the best of what is installed (`attention_kernels`). A run's record
says which.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from budwood.engine.attention_kernels import Case, Choice, chosen
from budwood.engine.attention_products import product_attention
from budwood.engine.families import head_width
from budwood.engine.native.attention import attention_kernel, fits, native_attention
from budwood.engine.native.build import Missing, kernels
from budwood.engine.packed import Layout
from budwood.errors import BaseError

NAME = "budwood"

SHORT = 256
"""Longest row for which plain products beat torch's kernel on a CPU in half precision."""


class KVStore(Protocol):
    """Holds earlier keys and values of running requests.

    `attend` appends k and v of this step's T tokens for one layer and returns (T, heads, head_dim).
    """

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scaling: float, softcap: float | None, window: int | None
    ) -> Tensor: ...


def register_attention() -> None:
    """Make "budwood" known to transformers; doing it again changes nothing."""
    from transformers import AttentionInterface

    if NAME not in AttentionInterface():  # type: ignore[no-untyped-call]  # transformers
        AttentionInterface.register(NAME, attention)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    sliding_window: int | None = None,
    layout: Layout | None = None,
    kv: KVStore | None = None,
    s_aux: Tensor | None = None,
    **ignored: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each row.

    Args:
        module: the model's attention module; its `layer_idx` names the layer for `kv`.
        query: (1, heads, T, head_dim).
        key: (1, kv_heads, T, head_dim).
        value: (1, kv_heads, T, head_dim).
        attention_mask: None: rows are told apart by `layout`.
        scaling: factor on the products; None: 1 / sqrt(head_dim).
        dropout: must be 0: frozen bases are not regularised.
        softcap: tanh cap on the scores.
        sliding_window: tokens that a token sees, itself included.
        layout: rows of a packed batch.
        kv: earlier keys and values.
        s_aux: attention sinks; refused.
        ignored: what other attention kernels want, e.g. position ids.

    Returns:
        (1, T, heads, head_dim), and None for the weights, which are never made.

    Raises:
        BaseError: attention sinks, a ready-made mask, or neither `layout` nor `kv`.
    """
    if s_aux is not None or attention_mask is not None or dropout:
        raise BaseError(
            "This base asks for attention sinks, a mask or dropout, which packed attention does not have.",
            where="a forward pass",
            mend="Call `hidden_states(model, batch)` on a base in eval mode.",
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # Some families do not hand the window on, but have it as an attribute of the layers whose mask it would shape.
    window = getattr(module, "sliding_window", None) if sliding_window is None else sliding_window
    q, k, v = (states[0].transpose(0, 1) for states in _one_dtype(query, key, value))
    if kv is not None:
        index = int(module.layer_idx)  # type: ignore[arg-type]  # every supported family numbers its attention layers
        return kv.attend(index, q, k, v, scaling=scale, softcap=softcap, window=window)[None], None
    if layout is None:
        raise BaseError("Packed attention was called without a layout of rows.", mend="Call `hidden_states(model, batch)`.")
    kernel = _library_kernel(q.device, q.dtype, q.shape[-1], softcap is not None).kernel
    if kernel is not None:
        return kernel.attend(q, k, v, layout, scale=scale, softcap=softcap, window=window)[None], None
    if fits(q, softcap) and not isinstance(kernels(), Missing):
        return native_attention(q, k, v, layout.cu_seqlens, scale=scale, window=window)[None], None
    if softcap is not None or _plain_is_faster(q, layout):
        return product_attention(q, k, v, layout, scale=scale, softcap=softcap, window=window)[None], None
    return _kernel_attention(q, k, v, layout, scale=scale, window=window)[None], None


def packed_attention_way(device: torch.device, dtype: torch.dtype, config: Any) -> str:
    """Say for the record which way packed rows take here: their results differ in rounding.

    Args:
        device: where.
        dtype: of the states.
        config: the model's, for the width of a head and the soft cap.
    """
    if device.type == "cuda":
        choice = _library_kernel(device, dtype, head_width(config), getattr(config, "attn_logit_softcapping", None) is not None)
        name = "torch" if choice.kernel is None else choice.kernel.name
        return f"{name} on {torch.cuda.get_device_name(device)}"
    if device.type != "cpu" or dtype != torch.bfloat16:
        return "torch"
    found = kernels()
    return f"products, or torch for long rows: {found.reason}" if isinstance(found, Missing) else attention_kernel()


def _library_kernel(device: torch.device, dtype: torch.dtype, width: int, capped: bool) -> Choice:
    if device.type != "cuda":
        return Choice(None, ())
    # "cuda" and "cuda:0" may be one GPU, and are one choice.
    place = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
    return chosen(Case(place, dtype, width, capped))


def _one_dtype(*states: Tensor) -> tuple[Tensor, ...]:
    """Under autocast, rotary embeddings and norms may leave q and k wider than v."""
    device = states[0].device.type
    if not torch.is_autocast_enabled(device):
        return states
    dtype = torch.get_autocast_dtype(device)
    return tuple(state.to(dtype) for state in states)


def _plain_is_faster(q: Tensor, layout: Layout) -> bool:
    return q.device.type == "cpu" and q.element_size() == 2 and layout.shapes[0][1] <= SHORT


def _kernel_attention(q: Tensor, k: Tensor, v: Tensor, layout: Layout, *, scale: float, window: int | None) -> Tensor:
    """Attention through torch's kernels, rows of similar length at once: (T, heads, D) → (T, heads, D)."""
    q, k, v = (_gather(states, layout) for states in (q, k, v))
    outs: list[Tensor] = []
    offset = 0
    for rows, longest in layout.shapes:
        part = slice(offset, offset + rows * longest)
        shaped = [states[part].view(rows, longest, *states.shape[1:]).transpose(1, 2) for states in (q, k, v)]
        outs.append(_rectangle(*shaped, scale=scale, window=window).flatten(0, 1))
        offset += rows * longest
    return _scatter(outs[0] if len(outs) == 1 else torch.cat(outs), layout)


def _gather(states: Tensor, layout: Layout) -> Tensor:
    apply: Callable[..., Tensor] = _Gather.apply
    return apply(states, layout)


def _scatter(laid: Tensor, layout: Layout) -> Tensor:
    apply: Callable[..., Tensor] = _Scatter.apply
    return apply(laid, layout)


class _Gather(torch.autograd.Function):
    """(T, ...) → (M, ...): tokens into rectangles. What hangs over gets no gradient: causality hides it from every row."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, layout: Layout) -> Tensor:
        ctx.inverse = layout.inverse
        return states.index_select(0, layout.gather)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        return grads[0].index_select(0, ctx.inverse), None


class _Scatter(torch.autograd.Function):
    """(M, ...) → (T, ...): rectangles back into tokens; what hangs over is dropped."""

    @staticmethod
    def forward(ctx: Any, laid: Tensor, layout: Layout) -> Tensor:
        ctx.layout = layout
        return laid.index_select(0, layout.inverse)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        layout: Layout = ctx.layout
        grad = grads[0].index_select(0, layout.gather)
        if layout.overhang is not None:
            grad.masked_fill_(layout.overhang.view(-1, *[1] * (grad.dim() - 1)), 0)
        return grad, None


def _rectangle(q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None) -> Tensor:
    """Rows of similar length at once: (rows, heads, longest, head_dim) each → (rows, longest, heads, head_dim)."""
    length = q.shape[2]
    mask = _visible(length, window, q.device) if window is not None and window < length else None
    if q.device.type == "cuda" and q.shape[1] != k.shape[1] and (mask is not None or q.element_size() > 2):
        # On a GPU the kernels that take masks or float32 know no shared key heads; torch would write out all scores instead.
        k, v = (_for_each_query_head(states, q.shape[1]) for states in (k, v))
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
    return out.transpose(1, 2)


def _for_each_query_head(states: Tensor, heads: int) -> Tensor:
    """(rows, kv_heads, length, D) → (rows, heads, length, D)."""
    rows, kv_heads, length, width = states.shape
    return states[:, :, None].expand(rows, kv_heads, heads // kv_heads, length, width).flatten(1, 2)


def _visible(length: int, window: int, device: torch.device) -> Tensor:
    places = torch.arange(length, device=device)
    distance = places[:, None] - places[None]
    return (distance >= 0) & (distance < window)
