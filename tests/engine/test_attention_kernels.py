"""Which kernel packed rows get on a GPU, how it is called, and FlexAttention's view of the rows; all without a GPU."""

import inspect
import sys
from collections.abc import Callable
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.test_attention import LENGTHS, SETTINGS, layout, loop, states
from torch import Tensor

from budwood.engine import attention_kernels as seam
from budwood.engine.attention_flex import block_mask, row_of_tokens, soft_cap, visible
from budwood.engine.attention_kernels import Case, Finder, Kernel, choose, fault_of
from budwood.engine.attention_products import product_attention
from budwood.engine.native.build import Missing

CPU = Case(torch.device("cpu"), torch.float32, 16, capped=False)
GPU = torch.device("cuda", 0)


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))


@pytest.fixture
def flash_calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """flash-attn's function by its documented signature; it gives the queries back."""
    calls: list[dict[str, Any]] = []

    def flash_attn_varlen_func(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cu_seqlens_q: Tensor,
        cu_seqlens_k: Tensor,
        max_seqlen_q: int,
        max_seqlen_k: int,
        dropout_p: float = 0.0,
        softmax_scale: float | None = None,
        causal: bool = False,
        window_size: tuple[int, int] = (-1, -1),
        softcap: float = 0.0,
        alibi_slopes: Tensor | None = None,
        deterministic: bool = False,
        return_attn_probs: bool = False,
        block_table: Tensor | None = None,
    ) -> Tensor:
        calls.append({name: value for name, value in locals().items() if name not in ("calls", "q", "k", "v")})
        return q

    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_varlen_func=flash_attn_varlen_func))
    monkeypatch.setattr(metadata, "version", lambda name: "2.8.3")
    return calls


def right(name: str) -> Callable[[Case], Kernel]:
    return lambda case: Kernel(name, product_attention)


def wrong(case: Case) -> Kernel:
    def attend(q: Tensor, k: Tensor, v: Tensor, *others: Any, **named: Any) -> Tensor:
        return 1.01 * product_attention(q, k, v, *others, **named)

    return Kernel("wrong", attend)


def broken(case: Case) -> Kernel:
    def attend(*states: Any, **named: Any) -> Tensor:
        raise RuntimeError("no kernel image is available\nfor execution")

    return Kernel("broken", attend)


def test_the_first_that_passes_its_trial_is_taken_and_the_others_are_named() -> None:
    finders: list[tuple[str, Finder]] = [
        ("a", lambda case: Missing("not installed")),
        ("b", wrong),
        ("c", broken),
        ("d", right("d")),
        ("e", right("e")),
    ]
    choice = choose(CPU, finders)
    assert choice.kernel is not None
    assert choice.kernel.name == "d"
    assert choice.passed_over[0] == ("a", "not installed")
    assert choice.passed_over[1][1].startswith("on trial it was 0.01 off")
    assert choice.passed_over[2] == ("c", "on trial it failed: RuntimeError: no kernel image is available")


def test_where_none_passes_there_is_none() -> None:
    assert choose(CPU, [("b", wrong)]).kernel is None


@pytest.mark.parametrize("capped", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_plain_products_pass_the_trial(dtype: torch.dtype, capped: bool) -> None:
    assert fault_of(Kernel("plain", product_attention), Case(torch.device("cpu"), dtype, 16, capped)) is None


def test_a_kernel_that_forgets_the_window_the_cap_or_a_gradient_fails_the_trial() -> None:
    def no_window(*states: Any, **named: Any) -> Tensor:
        return product_attention(*states, **named | {"window": None})

    def no_cap(*states: Any, **named: Any) -> Tensor:
        return product_attention(*states, **named | {"softcap": None})

    def no_way_back(q: Tensor, k: Tensor, v: Tensor, *others: Any, **named: Any) -> Tensor:
        return product_attention(q, k.detach(), v, *others, **named) + 0 * k.sum()

    def not_a_number(q: Tensor, *others: Any, **named: Any) -> Tensor:
        return product_attention(q, *others, **named) * float("nan")

    capped = Case(torch.device("cpu"), torch.float32, 16, capped=True)
    for attend in (no_window, no_cap, no_way_back, not_a_number):
        assert "on trial it was" in (fault_of(Kernel("odd", attend), capped) or "")


@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (CPU, "needs a GPU"),
        (Case(GPU, torch.float32, 64, False), "does not compute in torch.float32"),
        (Case(GPU, torch.bfloat16, 60, False), "multiple of 8"),
        (Case(GPU, torch.bfloat16, 264, False), "multiple of 8 up to 256"),
    ],
)
def test_what_flash_kernels_cannot_do_is_named(case: Case, reason: str) -> None:
    for find in (seam.flash_attn, seam.torch_varlen):
        found = find(case)
        assert isinstance(found, Missing)
        assert reason in found.reason


def test_older_and_smaller_gpus_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert "8.0, this GPU has 7.5" in seam.torch_varlen(Case(GPU, torch.bfloat16, 64, False)).reason  # type: ignore[union-attr]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    assert "wider than 192" in seam.torch_varlen(Case(GPU, torch.bfloat16, 256, False)).reason  # type: ignore[union-attr]
    assert isinstance(seam.torch_varlen(Case(GPU, torch.bfloat16, 128, False)), Kernel)


@pytest.mark.usefixtures("hopper")
def test_torchs_kernel_has_no_soft_cap_and_flash_attn_has() -> None:
    found = seam.torch_varlen(Case(GPU, torch.bfloat16, 64, capped=True))
    assert found == Missing("it has no soft cap")


@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize(("softcap", "window"), SETTINGS)
def test_flash_attn_is_called_as_it_is_documented(
    flash_calls: list[dict[str, Any]], softcap: float | None, window: int | None
) -> None:
    kernel = seam.flash_attn(Case(GPU, torch.bfloat16, 64, capped=softcap is not None))
    assert isinstance(kernel, Kernel)
    assert kernel.name == "flash-attn 2.8.3"
    q, k, v = states(torch.bfloat16)
    rows = layout()
    assert kernel.attend(q, k, v, rows, scale=0.6, softcap=softcap, window=window) is q
    (call,) = flash_calls
    assert call["cu_seqlens_q"] is call["cu_seqlens_k"] is rows.cu_seqlens
    assert call["max_seqlen_q"] == call["max_seqlen_k"] == max(LENGTHS)
    assert (call["causal"], call["dropout_p"], call["softmax_scale"]) == (True, 0.0, 0.6)
    assert call["window_size"] == ((-1, 0) if window is None else (2, 0))
    assert call["softcap"] == (softcap or 0.0)
    assert call["deterministic"] is torch.are_deterministic_algorithms_enabled()


@pytest.mark.usefixtures("hopper")
def test_torchs_kernel_is_called_as_its_signature_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.nn.attention import varlen

    signature = inspect.signature(varlen.varlen_attn)
    calls: list[dict[str, Any]] = []

    def varlen_attn(*arguments: Any, **named: Any) -> Tensor:
        bound = signature.bind(*arguments, **named)
        bound.apply_defaults()
        calls.append(dict(bound.arguments))
        query: Tensor = bound.arguments["query"]
        return query

    varlen_attn.__signature__ = signature  # type: ignore[attr-defined]  # what `inspect.signature` reads first
    monkeypatch.setattr(varlen, "varlen_attn", varlen_attn)
    kernel = seam.torch_varlen(Case(GPU, torch.bfloat16, 64, capped=False))
    assert isinstance(kernel, Kernel)
    q, k, v = states(torch.bfloat16)
    for window in (None, 3):
        kernel.attend(q, k, v, layout(), scale=0.6, softcap=None, window=window)
    assert [call["window_size"] for call in calls] == [(-1, 0), (2, 0)]
    assert all(call["enable_gqa"] and call["scale"] == 0.6 and call["max_q"] == max(LENGTHS) for call in calls)


@pytest.mark.usefixtures("hopper")
def test_a_torch_whose_kernel_knows_no_windows_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.nn.attention import varlen

    def varlen_attn(query: Tensor, key: Tensor, value: Tensor, *, scale: float, enable_gqa: bool) -> Tensor:
        return query

    monkeypatch.setattr(varlen, "varlen_attn", varlen_attn)
    assert seam.torch_varlen(Case(GPU, torch.bfloat16, 64, False)) == Missing("this torch's has no window_size")


def test_flex_attention_takes_float32_and_soft_caps_but_no_narrow_heads() -> None:
    assert isinstance(seam.flex_attention(Case(GPU, torch.float32, 64, capped=True)), Kernel)
    assert seam.flex_attention(CPU) == Missing("its way back needs a GPU")
    assert "narrower than 16" in seam.flex_attention(Case(GPU, torch.float32, 8, False)).reason  # type: ignore[union-attr]
    assert "torch.float64" in seam.flex_attention(Case(GPU, torch.float64, 64, False)).reason  # type: ignore[union-attr]


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 400), min_size=1, max_size=6), window=st.sampled_from([None, 1, 100, 128, 129, 300]))
def test_the_block_mask_is_the_one_that_torch_makes_pair_by_pair(lengths: list[int], window: int | None) -> None:
    from torch.nn.attention.flex_attention import create_block_mask

    rows = layout(tuple(lengths))
    tokens = sum(lengths)
    found = block_mask(rows.cu_seqlens, tokens, window)
    assert row_of_tokens(rows.cu_seqlens, tokens).tolist() == [row for row, length in enumerate(lengths) for _ in range(length)]
    wanted = create_block_mask(found.mask_mod, None, None, tokens, tokens, device="cpu")
    assert torch.equal(found.to_dense(), wanted.to_dense())
    assert found.full_kv_num_blocks is not None
    assert wanted.full_kv_num_blocks is not None
    assert torch.equal(found.full_kv_num_blocks, wanted.full_kv_num_blocks)
    for row, count in enumerate(wanted.full_kv_num_blocks[0, 0].tolist()):
        assert found.full_kv_indices is not None
        assert wanted.full_kv_indices is not None
        assert sorted(found.full_kv_indices[0, 0, row, :count]) == sorted(wanted.full_kv_indices[0, 0, row, :count])


@pytest.mark.parametrize(("softcap", "window"), SETTINGS)
def test_its_mask_and_score_functions_say_what_the_loop_does(softcap: float | None, window: int | None) -> None:
    q, k, v = (state.detach() for state in states())
    tokens = len(q)
    seen = visible(row_of_tokens(layout().cu_seqlens, tokens), torch.tensor(1 << 30 if window is None else window))
    place = torch.arange(tokens)
    zero = torch.zeros((), dtype=torch.int64)
    scores = torch.einsum("qhd,khd->hqk", q, k.repeat_interleave(2, 1)) * 0.6
    if softcap is not None:
        scores = soft_cap(softcap)(scores, zero, zero, zero, zero)
    weights = scores.masked_fill(~seen(zero, zero, place[:, None], place[None]), float("-inf")).softmax(-1)
    found = torch.einsum("hqk,khd->qhd", weights, v.repeat_interleave(2, 1))
    torch.testing.assert_close(found, loop(q, k, v, 0.6, softcap, window), rtol=1e-10, atol=1e-12)
