"""The LoRA linear and its gradient against an obvious float64 loop over tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from budwood.engine.lora.frozen import Frozen, frozen_linear
from budwood.engine.lora.pairs import RunPair
from budwood.engine.lora.product import lora_product
from budwood.engine.quant import Linear4bit, Workspace, dequantize, quantize


@dataclass
class Case:
    layer: nn.Module
    weight: Tensor  # (d_out, d_in) in float64
    bias: Tensor


def dense(dtype: torch.dtype) -> Case:
    layer = nn.Linear(12, 20).to(dtype)
    return Case(layer, layer.weight.detach().double(), layer.bias.detach().double())


def conv1d(dtype: torch.dtype) -> Case:
    layer = Conv1D(20, 12).to(dtype)  # type: ignore[no-untyped-call]
    nn.init.normal_(layer.bias)
    return Case(layer, layer.weight.detach().double().T, layer.bias.detach().double())


def four_bit(dtype: torch.dtype) -> Case:
    quantized = quantize(torch.randn(20, 12))
    layer = Linear4bit(quantized, bias=torch.randn(20).to(dtype), workspace=Workspace())
    assert layer.bias is not None
    return Case(layer, dequantize(quantized, dtype).double(), layer.bias.detach().double())


def loop(x: Tensor, case: Case, runs: Sequence[RunPair]) -> Tensor:
    """Compute W x + b + scaling B A x, token by token, with plain autograd."""
    rows = []
    for token in range(x.shape[0]):
        y = case.weight @ x[token] + case.bias
        for run in runs:
            end = x.shape[0] if run.end is None else run.end
            if run.start <= token < end:
                kept = x[token] if run.mask is None else x[token] * run.mask[token - run.start] / run.keep
                y = y + run.scaling * (run.b @ (run.a @ kept))
        rows.append(y)
    return torch.stack(rows)


def runs_for(spans: Sequence[tuple[int, int | None]], dtype: torch.dtype, *, dropout: bool = False) -> list[RunPair]:
    runs = []
    for index, (start, end) in enumerate(spans):
        rank = 2 + index
        a = torch.randn(rank, 12, dtype=dtype, requires_grad=True)
        b = torch.randn(20, rank, dtype=dtype, requires_grad=True)
        count = (9 if end is None else end) - start
        mask = torch.rand(count, 12) < 0.7 if dropout else None
        runs.append(RunPair(start, end, a, b, 0.5 + index, mask, 0.7 if dropout else 1.0))
    return runs


def leaves64(run: RunPair) -> RunPair:
    a, b = (tensor.detach().double().requires_grad_() for tensor in (run.a, run.b))
    return RunPair(run.start, run.end, a, b, run.scaling, run.mask, run.keep)


def gradients(x: Tensor, y: Tensor, runs: Sequence[RunPair], upstream: Tensor) -> list[Tensor]:
    inputs = [x, *(tensor for run in runs for tensor in (run.a, run.b))]
    return list(torch.autograd.grad(y, inputs, upstream))


def close(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    error = (found.double() - wanted.double()).norm() / wanted.double().norm()
    assert error < tolerance, f"relative error {error:.2e}"


@pytest.mark.parametrize("make", [dense, conv1d, four_bit])
@pytest.mark.parametrize("spans", [[(0, None)], [(0, 3), (5, 9)], [(2, 4)]])
@pytest.mark.parametrize("dropout", [False, True])
def test_forward_and_gradients_equal_the_float64_loop(
    make: Callable[[torch.dtype], Case], spans: list[tuple[int, int | None]], dropout: bool
) -> None:
    torch.manual_seed(0)
    case = make(torch.float32)
    runs = runs_for(spans, torch.float32, dropout=dropout)
    x = torch.randn(9, 12, requires_grad=True)
    upstream = torch.randn(9, 20)
    y = lora_product(x, frozen_linear(case.layer), runs)
    exact = [leaves64(run) for run in runs]
    x64 = x.detach().double().requires_grad_()
    y64 = loop(x64, case, exact)
    # float32 sums of a dozen terms: 1e-6 relative is the contract of the engine.
    close(y, y64, 1e-6)
    for found, wanted in zip(gradients(x, y, runs, upstream), gradients(x64, y64, exact, upstream.double()), strict=True):
        close(found, wanted, 1e-6)


@pytest.mark.parametrize("make", [dense, conv1d])
def test_gradcheck(make: Callable[[torch.dtype], Case]) -> None:
    torch.manual_seed(1)
    case = make(torch.float64)
    frozen: Frozen = frozen_linear(case.layer.requires_grad_(False))
    template = runs_for([(0, 3), (4, 9)], torch.float64, dropout=True)

    def compute(x: Tensor, *pairs: Tensor) -> Tensor:
        runs = [
            RunPair(run.start, run.end, a, b, run.scaling, run.mask, run.keep)
            for run, a, b in zip(template, pairs[::2], pairs[1::2], strict=True)
        ]
        return lora_product(x, frozen, runs)

    x = torch.randn(9, 12, dtype=torch.float64, requires_grad=True)
    pairs = [tensor for run in template for tensor in (run.a, run.b)]
    assert torch.autograd.gradcheck(compute, (x, *pairs))


def test_frozen_weight_gets_no_gradient_and_a_frozen_pair_none_either() -> None:
    case = dense(torch.float32)
    case.layer.requires_grad_(True)
    run = runs_for([(0, None)], torch.float32)[0]
    x = torch.randn(9, 12)
    frozen_pair = RunPair(0, None, run.a.detach(), run.b, run.scaling)
    torch.autograd.backward(lora_product(x, frozen_linear(case.layer), [frozen_pair]).sum())
    assert all(parameter.grad is None for parameter in case.layer.parameters())
    assert run.b.grad is not None
    assert x.grad is None


def test_bfloat16_base_keeps_float32_adapters_and_saves_no_float_copy_of_the_input() -> None:
    torch.manual_seed(2)
    case = dense(torch.bfloat16)
    run = runs_for([(0, None)], torch.float32)[0]
    x = torch.randn(9, 12, dtype=torch.bfloat16, requires_grad=True)
    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = lora_product(x, frozen_linear(case.layer), [run])
    assert y.dtype == torch.bfloat16
    large = [tensor for tensor in saved if tensor.numel() >= x.numel() and tensor.shape[0] == 9]
    assert [tensor.data_ptr() for tensor in large] == [x.data_ptr()]
    torch.autograd.backward(y.float().sum())
    assert run.a.grad is not None
    assert run.a.grad.dtype == torch.float32
    exact = loop(x.detach().double(), case, [RunPair(0, None, run.a.detach().double(), run.b.detach().double(), run.scaling)])
    close(y.detach(), exact, 1e-2)  # bfloat16 has 8 bits of mantissa: one rounding is 4e-3


def test_no_tokens_and_one_token() -> None:
    case = dense(torch.float32)
    run = runs_for([(0, None)], torch.float32)[0]
    for count in (0, 1):
        x = torch.randn(count, 12, requires_grad=True)
        y = lora_product(x, frozen_linear(case.layer), [run])
        assert y.shape == (count, 20)
        torch.autograd.backward(y.sum())
        assert x.grad is not None
        assert x.grad.shape == (count, 12)
