"""Every attention kernel that is here against a loop in float64, forward and back; on a CPU those that compute there."""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from tests.devices import DEVICES, computes_on
from torch import Tensor

from budwood.engine import attention as seam
from budwood.engine import attention_kernels as kernels
from budwood.engine.attention import packed_attention_way
from budwood.engine.attention_kernels import Case, Choice, chosen
from budwood.engine.native.build import Missing
from budwood.engine.packed import Encoded, pack

LENGTHS = [70, 1, 300, 9, 129]
FINDERS = {"flash-attn": kernels.flash_attn, "varlen_attn": kernels.torch_varlen, "flex_attention": kernels.flex_attention}
NEAR = {torch.float32: 1e-5, torch.bfloat16: 0.02, torch.float16: 0.004}
"""Of the largest value: sums in another order in float32, rounded operands in half precision."""


def plain(q: Tensor, k: Tensor, v: Tensor, softcap: float | None, window: int | None) -> Tensor:
    """One row at a time, all its scores written out."""
    outs = []
    for rows in zip(*(torch.split(state, LENGTHS) for state in (q, k, v)), strict=True):
        queries, keys, values = (state.transpose(0, 1) for state in rows)
        keys, values = (state.repeat_interleave(2, 0) for state in (keys, values))
        scores = queries @ keys.transpose(1, 2) * 0.2
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        place = torch.arange(scores.shape[-1], device=q.device)
        distance = place[:, None] - place
        seen = (distance >= 0) if window is None else (distance >= 0) & (distance < window)
        weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
        outs.append((weights @ values).transpose(0, 1))
    return torch.cat(outs)


def given(device: str, dtype: torch.dtype, width: int) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(sum(LENGTHS), heads, width) for heads in (4, 2, 2)]
    states = [torch.randn(shape, generator=generator).to(device, dtype).requires_grad_() for shape in shapes]
    return states, torch.randn(shapes[0], generator=generator).to(device, dtype)


def check(
    attend: Callable[..., Tensor], device: str, dtype: torch.dtype, softcap: float | None, window: int | None, width: int = 64
) -> None:
    states, weight = given(device, dtype, width)
    layout = pack([Encoded((0,) * length, (False,) * length) for length in LENGTHS], device).layout
    q, k, v = states
    out = attend(q, k, v, layout, scale=0.2, softcap=softcap, window=window)
    assert out.dtype == dtype
    wide = [state.detach().double().requires_grad_() for state in states]
    wanted = plain(wide[0], wide[1], wide[2], softcap, window)
    pairs = [(out, wanted)]
    theirs = torch.autograd.grad(wanted, wide, weight.double())
    pairs += zip(torch.autograd.grad(out, states, weight), theirs, strict=True)
    for mine, other in pairs:
        assert float((mine.detach().double() - other.detach()).abs().max() / other.detach().abs().max()) < NEAR[dtype]


@pytest.mark.gpu
@pytest.mark.parametrize("window", [None, 33])
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", FINDERS)
def test_a_kernel_is_the_loop_over_rows(name: str, dtype: torch.dtype, softcap: float | None, window: int | None) -> None:
    computes_on("cuda")
    found = FINDERS[name](Case(torch.device("cuda", 0), dtype, 64, softcap is not None))
    if isinstance(found, Missing):
        pytest.skip(f"{name} for {dtype}: {found.reason}")
    check(found.attend, "cuda", dtype, softcap, window)


def through_the_seam(
    q: Tensor, k: Tensor, v: Tensor, layout: object, *, scale: float, softcap: float | None, window: int | None
) -> Tensor:
    q, k, v = (state.transpose(0, 1)[None] for state in (q, k, v))
    named = {"scaling": scale, "softcap": softcap, "sliding_window": window, "layout": layout}
    return seam.attention(torch.nn.Module(), q, k, v, None, **named)[0][0]  # type: ignore[arg-type]  # a layout, see `check`


@pytest.mark.parametrize("window", [None, 33])
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("device", DEVICES)
def test_what_the_model_calls_is_the_loop_over_rows(
    device: str, dtype: torch.dtype, softcap: float | None, window: int | None
) -> None:
    computes_on(device)
    check(through_the_seam, device, dtype, softcap, window)


@pytest.mark.parametrize("window", [None, 33])
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("device", DEVICES)
def test_without_any_kernel_so_is_torchs_own(
    device: str, dtype: torch.dtype, softcap: float | None, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    computes_on(device)
    monkeypatch.setattr(seam, "chosen", lambda case: Choice(None, ()))
    monkeypatch.setattr(seam, "kernels", lambda: Missing("not asked for"))
    check(through_the_seam, device, dtype, softcap, window)


@pytest.mark.gpu
def test_the_choice_repeats_itself_and_is_named() -> None:
    computes_on("cuda")
    case = Case(torch.device("cuda", 0), torch.bfloat16, 64, capped=False)
    choice = chosen(case)
    assert choice.kernel is not None, f"nothing better than torch's kernel for rectangles: {choice.passed_over}"
    assert packed_attention_way(case.device, case.dtype, SimpleNamespace(head_dim=64)).startswith(choice.kernel.name)
    states, weight = given("cuda", torch.bfloat16, 64)
    layout = pack([Encoded((0,) * length, (False,) * length) for length in LENGTHS], "cuda").layout
    q, k, v = states
    attend = partial(choice.kernel.attend, scale=0.2, softcap=None, window=None)
    torch.use_deterministic_algorithms(True)
    try:
        results = [torch.autograd.grad(attend(q, k, v, layout), states, weight) for _ in range(3)]
    finally:
        torch.use_deterministic_algorithms(False)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
