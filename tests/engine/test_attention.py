"""Both ways of packed attention against a loop in float64, and the seam for generation."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from budwood.engine import attention_products
from budwood.engine.attention import attention
from budwood.engine.attention_products import product_attention
from budwood.engine.packed import Encoded, Layout, pack
from budwood.errors import BaseError

LENGTHS = (7, 1, 6, 7, 3)  # 6 hangs over beside 7
SETTINGS = [(None, None), (None, 3), (0.8, None), (0.8, 3)]


def layout(lengths: tuple[int, ...] = LENGTHS) -> Layout:
    return pack([Encoded((1,) * length, (False,) * length) for length in lengths]).layout


def states(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((sum(LENGTHS), 4, 3), (sum(LENGTHS), 2, 3), (sum(LENGTHS), 2, 3))
    q, k, v = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes)
    return q, k, v


def loop(q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None, window: int | None) -> Tensor:
    """One token, one head at a time."""
    out = torch.zeros_like(q)
    start = 0
    for length in LENGTHS:
        for t in range(length):
            first = 0 if window is None else max(0, t - window + 1)
            seen = slice(start + first, start + t + 1)
            for head in range(q.shape[1]):
                scores = k[seen, head // 2] @ q[start + t, head] * scale
                if softcap is not None:
                    scores = torch.tanh(scores / softcap) * softcap
                out[start + t, head] = scores.softmax(0) @ v[seen, head // 2]
        start += length
    return out


def through_interface(q: Tensor, k: Tensor, v: Tensor, **settings: Any) -> Tensor:
    module: Any = SimpleNamespace(layer_idx=3)
    q, k, v = (state.transpose(0, 1)[None] for state in (q, k, v))
    return attention(module, q, k, v, None, **settings)[0][0]


@pytest.mark.parametrize(("softcap", "window"), SETTINGS)
def test_products_are_a_loop_over_tokens(softcap: float | None, window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_products, "BLOCK", 4 * 49 * 2)  # two rows of seven at once
    given = states()
    q, k, v = given
    found = product_attention(q, k, v, layout(), scale=0.6, softcap=softcap, window=window)
    wanted = loop(q, k, v, 0.6, softcap, window)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    weight = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=found.dtype)
    ours = torch.autograd.grad(found, given, weight)
    theirs = torch.autograd.grad(wanted, given, weight)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("softcap", "window"), SETTINGS)
def test_gradcheck_of_products(softcap: float | None, window: int | None) -> None:
    given = tuple(state.detach()[:13].requires_grad_() for state in states())
    rows = layout((7, 6))
    assert torch.autograd.gradcheck(
        lambda q, k, v: product_attention(q, k, v, rows, scale=0.6, softcap=softcap, window=window), given
    )


@pytest.mark.parametrize("window", [None, 3])
def test_kernels_are_a_loop_over_tokens(window: int | None) -> None:
    given = states()
    found = through_interface(*given, scaling=0.6, sliding_window=window, layout=layout())
    wanted = loop(*given, 0.6, None, window)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    weight = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=found.dtype)
    ours = torch.autograd.grad(found, given, weight)
    for mine, other in zip(ours, torch.autograd.grad(wanted, given, weight), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12)


def test_short_rows_in_bfloat16_take_the_products_and_stay_near() -> None:
    given = states(torch.bfloat16)
    found = through_interface(*given, layout=layout())
    q, k, v = (state.double() for state in given)
    wanted = loop(q, k, v, 3**-0.5, None, None)
    assert found.dtype == torch.bfloat16
    assert type(found.grad_fn).__name__ == "SelectBackward0"
    # bf16 keeps 8 bits; values are about 1.
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=0.03)


def test_autocast_brings_wide_queries_and_narrow_values_together() -> None:
    q, k, v = states(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = through_interface(q, k, v.bfloat16(), layout=layout())
    assert found.dtype == torch.bfloat16
    found.float().sum().backward()  # type: ignore[no-untyped-call]  # torch has no types here
    assert q.grad is not None
    assert q.grad.dtype == torch.float32


def test_a_window_that_a_family_does_not_hand_on_is_found_on_its_layer() -> None:
    given = states()
    module: Any = SimpleNamespace(layer_idx=0, sliding_window=3)
    q, k, v = (state.transpose(0, 1)[None] for state in given)
    found = attention(module, q, k, v, None, scaling=0.6, layout=layout())[0][0]
    torch.testing.assert_close(found, loop(*given, 0.6, None, 3))


def test_generation_is_handed_queries_keys_and_values_by_token() -> None:
    asked: dict[str, Any] = {}

    class Store:
        def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, **settings: Any) -> Tensor:
            asked.update(layer=layer, shapes=(q.shape, k.shape, v.shape), **settings)
            return q * 2

    q, k, v = states()
    found = through_interface(q, k, v, kv=Store(), scaling=0.5, softcap=30.0, sliding_window=9)
    assert torch.equal(found, q * 2)
    assert asked == {
        "layer": 3,
        "shapes": (q.shape, k.shape, v.shape),
        "scaling": 0.5,
        "softcap": 30.0,
        "window": 9,
    }


@pytest.mark.parametrize("settings", [{"s_aux": torch.zeros(4)}, {"dropout": 0.1}])
def test_what_packed_attention_does_not_have_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(BaseError, match="asks for attention sinks, a mask or dropout"):
        through_interface(*states(), layout=layout(), **settings)


def test_a_call_without_rows_is_refused() -> None:
    with pytest.raises(BaseError, match="without a layout of rows"):
        through_interface(*states())
