"""Attention over packed rows on a GPU: the kernels that libraries bring, tried out before they are used.

In this order: flash-attn where it is installed, torch's own variable-length attention, FlexAttention compiled for these rows.
One is chosen for a device, a dtype, a head's width and whether there is a soft cap: the first that can do it and that has, on
a few short rows, given what plain products give, forward and back. Where there is none, `attention` has torch's kernel for
rectangles. A run's record names the choice, for their results differ in rounding.

Every kernel sees causality, rows, scale, windows and soft caps; sinks and masks are refused before one is asked.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any, Protocol

import torch
from torch import Tensor

from budwood.engine.attention_flex import flex_attend
from budwood.engine.attention_products import product_attention
from budwood.engine.native.build import Missing
from budwood.engine.packed import Encoded, Layout, pack

HALF = (torch.float16, torch.bfloat16)
WIDEST = 256
WIDE = 192
"""A head's width beyond which the flash kernels' way back needs the shared memory of a data centre's GPU."""
LARGE_MEMORY = ((8, 0), (9, 0), (10, 0))
NARROWEST_FLEX = 16
TRIED = (70, 1, 300, 9)
"""Tokens of the rows that a kernel is tried on, shorter and longer than its blocks. Together three blocks: a number of blocks
that is also a number of heads would be compiled in as a constant."""
TRIED_WINDOW = 33
NEAR = {torch.bfloat16: 0.04, torch.float16: 0.01, torch.float32: 0.005}
"""Largest difference to plain products in float32 over their largest value: a gross error is looked for, not rounding."""


class Attend(Protocol):
    """Causal attention inside each row: q (T, heads, D), k and v (T, kv_heads, D) → (T, heads, D)."""

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, layout: Layout, *, scale: float, softcap: float | None, window: int | None
    ) -> Tensor: ...


@dataclass(frozen=True)
class Case:
    """What a kernel is wanted for."""

    device: torch.device
    dtype: torch.dtype
    width: int
    capped: bool


@dataclass(frozen=True)
class Kernel:
    """A kernel under the name that a run's record has for it."""

    name: str
    attend: Attend


@dataclass(frozen=True)
class Choice:
    """The kernel, or None; and why each that came before it was passed over."""

    kernel: Kernel | None
    passed_over: tuple[tuple[str, str], ...]


Finder = Callable[[Case], Kernel | Missing]


@cache
def chosen(case: Case) -> Choice:
    """Choose for a case, once in a process."""
    finders: tuple[tuple[str, Finder], ...] = (
        ("flash-attn", flash_attn),
        ("torch varlen_attn", torch_varlen),
        ("flex_attention", flex_attention),
    )
    return choose(case, finders)


def choose(case: Case, finders: Sequence[tuple[str, Finder]]) -> Choice:
    """Take the first kernel that is there, can do the case, and passes its trial."""
    passed_over: list[tuple[str, str]] = []
    for name, find in finders:
        found = find(case)
        reason = found.reason if isinstance(found, Missing) else fault_of(found, case)
        if reason is None and isinstance(found, Kernel):
            return Choice(found, tuple(passed_over))
        passed_over.append((name, reason or ""))
    return Choice(None, tuple(passed_over))


def flash_attn(case: Case) -> Kernel | Missing:
    """Dao-AILab's package: half precision, windows and soft caps."""
    unfit = _flash_unfit(case)
    if unfit:
        return Missing(unfit)
    try:
        from flash_attn import flash_attn_varlen_func
    except ImportError as error:
        return Missing(f"not installed: {error}")

    def attend(
        q: Tensor, k: Tensor, v: Tensor, layout: Layout, *, scale: float, softcap: float | None, window: int | None
    ) -> Tensor:
        longest = layout.shapes[0][1]
        out: Tensor = flash_attn_varlen_func(
            q,
            k,
            v,
            layout.cu_seqlens,
            layout.cu_seqlens,
            longest,
            longest,
            softmax_scale=scale,
            causal=True,
            window_size=_to_the_left(window),
            softcap=softcap or 0.0,
            deterministic=torch.are_deterministic_algorithms_enabled(),
        )
        return out

    return Kernel(f"flash-attn {metadata.version('flash-attn')}", attend)


def torch_varlen(case: Case) -> Kernel | Missing:
    """Torch's own: half precision, windows, no soft caps. It repeats itself where torch is told to."""
    unfit = _flash_unfit(case) or ("it has no soft cap" if case.capped else "")
    if unfit:
        return Missing(unfit)
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError as error:
        return Missing(f"this torch has none: {error}")
    lacking = {"scale", "window_size", "enable_gqa"} - set(inspect.signature(varlen_attn).parameters)
    if lacking:
        return Missing(f"this torch's has no {', '.join(sorted(lacking))}")

    def attend(
        q: Tensor, k: Tensor, v: Tensor, layout: Layout, *, scale: float, softcap: float | None, window: int | None
    ) -> Tensor:
        longest = layout.shapes[0][1]
        rows = layout.cu_seqlens
        settings: dict[str, Any] = {"scale": scale, "window_size": _to_the_left(window), "enable_gqa": q.shape[1] != k.shape[1]}
        out: Any = varlen_attn(q, k, v, rows, rows, longest, longest, **settings)
        return out  # type: ignore[no-any-return]  # a pair only where the sums are asked for

    return Kernel("torch varlen_attn", attend)


def flex_attention(case: Case) -> Kernel | Missing:
    """FlexAttention, compiled: float32 too, windows and soft caps."""
    if case.device.type != "cuda":
        return Missing("its way back needs a GPU")
    if case.width < NARROWEST_FLEX:
        return Missing(f"a head of {case.width} is narrower than {NARROWEST_FLEX}")
    if case.dtype not in (*HALF, torch.float32):
        return Missing(f"it does not compute in {case.dtype}")
    return Kernel("flex_attention", flex_attend)


def fault_of(kernel: Kernel, case: Case) -> str | None:
    """Try a kernel on a few short rows against plain products in float32; None when it passes.

    Raises:
        torch.OutOfMemoryError: the trial found no memory, which says nothing about the kernel.
    """
    layout = pack([Encoded((0,) * length, (False,) * length) for length in TRIED], case.device).layout
    softcap = 5.0 if case.capped else None
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(case.device.type, enabled=False):
            for window in (None, TRIED_WINDOW):
                found = _outcome(kernel.attend, case, layout, softcap, window, case.dtype)
                wanted = _outcome(product_attention, case, layout, softcap, window, torch.float32)
                for ours, theirs in zip(found, wanted, strict=True):
                    distance = float((ours.float() - theirs).abs().max() / theirs.abs().max())
                    if not distance <= NEAR[case.dtype]:
                        return f"on trial it was {distance:.2g} off (window {window})"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # libraries and compilers fail in any way there is; what they said is kept with the choice
        return f"on trial it failed: {type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
    return None


def _outcome(
    attend: Attend, case: Case, layout: Layout, softcap: float | None, window: int | None, dtype: torch.dtype
) -> list[Tensor]:
    """The result of a trial, and its three gradients."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(sum(TRIED), heads, case.width) for heads in (4, 2, 2)]
    # Rounded alike for both, so that only what happens to them differs.
    drawn = [torch.randn(shape, generator=generator).to(case.device, case.dtype) for shape in shapes]
    given = [state.to(dtype).detach().requires_grad_() for state in drawn]
    weight = torch.randn(shapes[0], generator=generator).to(case.device, case.dtype).to(dtype)
    q, k, v = given
    out = attend(q, k, v, layout, scale=case.width**-0.5, softcap=softcap, window=window)
    return [out.detach(), *torch.autograd.grad(out, given, weight)]


def _flash_unfit(case: Case) -> str:
    """Why the flash kernels cannot do a case; empty when they can."""
    if case.device.type != "cuda":
        return "it needs a GPU"
    if case.dtype not in HALF:
        return f"it does not compute in {case.dtype}"
    if case.width % 8 or case.width > WIDEST:
        return f"a head's width must be a multiple of 8 up to {WIDEST}, not {case.width}"
    capability = torch.cuda.get_device_capability(case.device)
    if capability < (8, 0):
        return f"it needs compute capability 8.0, this GPU has {'.'.join(map(str, capability))}"
    if case.width > WIDE and capability not in LARGE_MEMORY:
        return f"heads wider than {WIDE} have no way back on this GPU"
    return ""


def _to_the_left(window: int | None) -> tuple[int, int]:
    """Our window counts the token itself, theirs what lies before it; nothing after it is seen in either."""
    return (-1 if window is None else window - 1, 0)
