"""Int8 by rows: its rounding, its error, its layers."""

import pytest
import torch
from torch import Tensor

from budwood.engine.quant import Linear8bit, Workspace, dequantize8, quantize8
from budwood.errors import BaseError


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_no_weight_is_further_off_than_half_a_step_of_its_row(dtype: torch.dtype) -> None:
    weight = some(20, 70).to(dtype)
    quantized = quantize8(weight)
    assert int(quantized.q.abs().max()) == 127
    off = (dequantize8(quantized, torch.float32) - weight.float()).abs().amax(dim=1)
    assert bool((off <= quantized.scale / 127 * 0.501).all())


def test_a_row_of_zeros_stays_zero() -> None:
    weight = some(3, 8)
    weight[1] = 0
    quantized = quantize8(weight)
    assert float(quantized.scale[1]) == 0
    assert not bool(dequantize8(quantized, torch.float32)[1].any())


def test_bytes_a_weight() -> None:
    assert quantize8(some(64, 512)).size_bytes == 64 * 512 + 4 * 64


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(5, 64), (7, 50), (1, 3), (600, 700)])
def test_the_fast_way_back_has_the_bits_of_the_reference(shape: tuple[int, int], dtype: torch.dtype) -> None:
    quantized = quantize8(some(*shape))
    assert torch.equal(Workspace().weight(quantized, dtype), dequantize8(quantized, dtype))


@pytest.mark.parametrize("transposed", [False, True])
def test_forward_and_backward_equal_plain_autograd_on_the_expanded_weight(transposed: bool) -> None:
    quantized = quantize8(some(*((24, 40) if transposed else (40, 24))))
    layer = Linear8bit(quantized, bias=some(40, seed=1), workspace=Workspace(), transposed=transposed)
    weight = dequantize8(quantized, torch.float32)
    x = some(2, 3, 24, seed=2).requires_grad_()
    plain = x.detach().clone().requires_grad_()
    y = layer(x)
    wanted = torch.nn.functional.linear(plain, weight.T if transposed else weight, some(40, seed=1))
    torch.testing.assert_close(y, wanted)
    upstream = some(2, 3, 40, seed=3)
    (found,), (gradient,) = torch.autograd.grad(y, x, upstream), torch.autograd.grad(wanted, plain, upstream)
    torch.testing.assert_close(found, gradient)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_by_name(value: float) -> None:
    weight = some(4, 4)
    weight[2, 1] = value
    with pytest.raises(BaseError, match="up_proj has 1 values"):
        quantize8(weight, name="up_proj")
