"""Compiled expansion from 4 and 8 bits gives the bits of the reference."""

import pytest
import torch
from tests.devices import DEVICES, computes_on

from budwood.engine.quant import Workspace, dequantize, dequantize8, kernels, quantize, quantize8


@pytest.fixture
def workspace(monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """One that compiles, although C would do it here."""
    monkeypatch.setattr(kernels, "_in_c", lambda device, dtype: False)
    made = Workspace()
    made.compiled = True
    return made


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_come_back_bit_for_bit(workspace: Workspace, dtype: torch.dtype, device: str) -> None:
    computes_on(device)
    generator = torch.Generator().manual_seed(0)
    for shape in ((64, 320), (96, 64), (7, 64), (5, 13)):
        weight = torch.randn(shape, generator=generator).to(device)
        for double in (True, False):
            quantized = quantize(weight, double=double)
            assert torch.equal(workspace.weight(quantized, dtype), dequantize(quantized, dtype))
        by_rows = quantize8(weight)
        assert torch.equal(workspace.weight(by_rows, dtype), dequantize8(by_rows, dtype))
