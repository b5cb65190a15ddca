"""Weights in 4 and 8 bits come back from a GPU with the bits that the CPU's reference gives."""

import pytest
import torch
from tests.devices import DEVICES, computes_on

from budwood.engine.quant import Workspace, dequantize, dequantize8, quantize, quantize8
from budwood.engine.quant.int8 import Quantized8
from budwood.engine.quant.nf4 import Nested, Quantized


def moved(quantized: Quantized, device: str) -> Quantized:
    nested = quantized.nested
    if nested is not None:
        nested = Nested(nested.absmax.to(device), nested.offset.to(device))
    return Quantized(quantized.packed.to(device), quantized.absmax.to(device), nested, quantized.shape, quantized.dtype)


@pytest.mark.parametrize("shape", [(64, 320), (300, 512), (7, 64), (5, 13)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("device", DEVICES)
def test_what_was_quantised_on_a_cpu_is_expanded_to_the_same_bits(
    device: str, dtype: torch.dtype, shape: tuple[int, int]
) -> None:
    computes_on(device)
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    workspace = Workspace()
    for double in (True, False):
        quantized = quantize(weight, double=double)
        found = workspace.weight(moved(quantized, device), dtype)
        assert found.device.type == device
        assert torch.equal(found.cpu(), dequantize(quantized, dtype))
    by_rows = quantize8(weight)
    there = Quantized8(by_rows.q.to(device), by_rows.scale.to(device), by_rows.dtype)
    assert torch.equal(workspace.weight(there, dtype).cpu(), dequantize8(by_rows, dtype))
