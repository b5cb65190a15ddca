"""The C functions between products against float64."""

import pytest
import torch
from tests.engine.native.test_attention import off
from torch import Tensor

from budwood.engine.native.build import Missing, kernels
from budwood.engine.native.elementwise import cross_entropy, gated_silu, gated_silu_back, rms_norm, rms_norm_back, rotate

# Rounding every result alone gives 0.0017, with few numbers up to 0.002; sums that cancel a little more.
ROUNDED = 0.0025


@pytest.fixture(autouse=True)
def native() -> None:
    found = kernels()
    if isinstance(found, Missing):
        pytest.skip(f"no C kernels on this machine: {found.reason}")


def some(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale).bfloat16()


def wide(tensor: Tensor) -> Tensor:
    return tensor.double().requires_grad_()


@pytest.mark.parametrize(("tokens", "heads", "width"), [(5, 1, 576), (3, 1, 50), (4, 3, 64), (1, 2, 7)])
def test_rms_norm_and_its_way_back(tokens: int, heads: int, width: int) -> None:
    # Tokens further apart than they are long, as in a joint product.
    x = some(tokens, heads + 1, width)[:, :heads]
    weight, grad, rest = some(width, seed=1), some(tokens, heads, width, seed=2), some(tokens, heads, width, seed=3)
    out, rstd = torch.empty_like(grad), torch.empty(tokens, heads)
    rms_norm(x, weight, out, rstd, epsilon=1e-5)
    exact = wide(x)
    wanted = exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + 1e-5) * weight.double()
    assert off(out, wanted) < ROUNDED
    (slope,) = torch.autograd.grad(wanted, exact, grad.double())
    dx, again = torch.empty_like(grad), torch.empty_like(grad)
    rms_norm_back(x, weight, rstd, grad, dx, rest=rest, again=again)
    assert off(dx, slope + rest.double()) < ROUNDED
    assert torch.equal(again, out)
    rms_norm_back(x, weight, rstd, grad, grad)
    assert off(grad, slope) < ROUNDED


@pytest.mark.parametrize("width", [64, 32, 20])
def test_rotation_and_its_transpose(width: int) -> None:
    x, cosine, sine = some(6, 5, width), some(6, width, seed=1), some(6, width, seed=2)
    exact = wide(x[:, :3])
    left, right = exact[..., : width // 2], exact[..., width // 2 :]
    wanted = exact * cosine[:, None].double() + torch.cat([-right, left], -1) * sine[:, None].double()
    grad = some(6, 3, width, seed=3)
    (slope,) = torch.autograd.grad(wanted, exact, grad.double())
    untouched = x[:, 3:].clone()
    rotate(x[:, :3], cosine, sine)
    rotate(grad, cosine, sine, back=True)
    assert off(x[:, :3], wanted) < ROUNDED
    assert off(grad, slope) < ROUNDED
    assert torch.equal(x[:, 3:], untouched)


@pytest.mark.parametrize("width", [64, 50, 3])
def test_gated_silu_and_its_way_back(width: int) -> None:
    both, grad = some(7, 2 * width, scale=8.0), some(7, width, seed=1)
    exact = wide(both)
    wanted = torch.nn.functional.silu(exact[:, :width]) * exact[:, width:]
    (slope,) = torch.autograd.grad(wanted, exact, grad.double())
    out = torch.empty_like(grad)
    gated_silu(both, out)
    gated_silu_back(both, grad)
    assert off(out, wanted) < ROUNDED
    assert off(both, slope) < ROUNDED
    assert torch.equal(grad, out)


def test_the_gate_at_its_ends() -> None:
    both = torch.tensor([[300.0, -300.0, 0.0, float("nan"), 2.0, 3.0, 4.0, 5.0]]).bfloat16()
    out = torch.empty(1, 4, dtype=torch.bfloat16)
    gated_silu(both, out)
    assert out[0, :3].tolist() == pytest.approx([600.0, 0.0, 0.0], abs=1e-30)
    assert bool(out[0, 3].isnan())


@pytest.mark.parametrize("words", [1000, 33, 16, 5])
def test_cross_entropy_and_its_slope(words: int) -> None:
    logits, targets = some(6, words, scale=5.0), torch.arange(6) * 7 % words
    exact = wide(logits)
    wanted = torch.nn.functional.cross_entropy(exact, targets, reduction="none")
    (slope,) = torch.autograd.grad(wanted.sum(), exact)
    loss = torch.empty(6)
    cross_entropy(logits, targets, loss)
    torch.testing.assert_close(loss.double(), wanted.detach(), rtol=1e-5, atol=1e-5)
    assert off(logits, slope) < ROUNDED


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_a_logit_that_is_no_number_shows_in_the_loss(odd: float) -> None:
    logits = some(2, 100)
    logits[1, 57] = odd
    loss = torch.empty(2)
    cross_entropy(logits, torch.tensor([3, 4]), loss)
    assert bool(loss[0].isfinite())
    assert not bool(loss[1].isfinite())
