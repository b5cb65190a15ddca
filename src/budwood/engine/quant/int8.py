"""Int8 by rows: one scale a row of the stored weight, bitsandbytes' vector-wise form.

    q = round(w · 127 / absmax(row)), ties to even          w ≈ q · absmax(row) · (1 / 127)

Source: bitsandbytes 0.50.2 (`int8_vectorwise_quant`), held to it by tests/engine/quant/test_against_bitsandbytes.py, but for
rows of zeros, where it divides by zero: they become zeros with scale 0.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from budwood.engine.quant.nf4 import check_weight

INVERSE = 7.874015718698502e-3
"""1 / 127 as float32, by which bitsandbytes multiplies."""


@dataclass(frozen=True)
class Quantized8:
    """A weight in 8 bits.

    Args:
        q: (rows, columns) int8.
        scale: (rows,) float32, the largest magnitude of the row.
        dtype: that the weight had.
    """

    q: Tensor
    scale: Tensor
    dtype: torch.dtype

    @property
    def size_bytes(self) -> int:
        return self.q.numel() + 4 * self.scale.numel()


def quantize8(weight: Tensor, *, name: str = "weight") -> Quantized8:
    """Quantize a matrix by rows.

    Args:
        weight: (rows, columns) float32, bfloat16 or float16.
        name: for messages.

    Raises:
        BaseError: another dtype, no elements, or a value that is not finite.
    """
    check_weight(weight, name)
    values = weight.detach()
    scale = values.abs().amax(dim=1).float()
    factor = torch.where(scale > 0, 127.0 / scale, 0.0)
    return Quantized8(torch.round(values * factor[:, None]).to(torch.int8), scale, weight.dtype)


def dequantize8(quantized: Quantized8, dtype: torch.dtype) -> Tensor:
    """Give the weight back: q · scale · (1 / 127) in float32, in this order, then one cast."""
    return (quantized.q * quantized.scale[:, None] * INVERSE).to(dtype)
