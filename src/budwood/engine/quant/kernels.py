"""The fast way back from 4 and 8 bits, straight into one reused buffer: in C where this machine can, else in torch.

All give the bits of `nf4.dequantize` and `int8.dequantize8`. In eager torch a table from byte to two values moves both as one
64-bit word: 0.4 ms for a million weights on one core, where indexing by byte takes 5. Where layers are compiled, so is this.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from budwood.engine.native.build import Missing, call, kernels
from budwood.engine.quant.int8 import INVERSE, Quantized8, dequantize8
from budwood.engine.quant.nf4 import BLOCK, NESTED_BLOCK, Quantized, block_scales, code_table, dynamic_map

_PIECE = 1 << 18  # elements expanded at once when the target is not float32: 1 MiB of scratch, which stays in the cache
_GPU_PIECE = 1 << 22  # a GPU's launches cost more than its memory


@dataclass(frozen=True)
class _Tables:
    """What bytes stand for.

    Args:
        pairs: (256,) int64, the bits of (code[byte >> 4], code[byte & 15]); whole numbers, so that no value is ever touched.
        levels: (256,) float32, the dynamic map of the scales.
        code: (16,) float32.
    """

    pairs: Tensor
    levels: Tensor
    code: Tensor


class Workspace:
    """The one buffer that all quantised layers of a model expand into, one after the other.

    A layer's weight is whole until the next layer asks; nothing may keep it. It grows to the largest layer. While `compiled`
    is set, what C does not expand is expanded by compiled functions, which read the bytes once and write the weight once.
    """

    def __init__(self) -> None:
        self.compiled = False
        self._buffers: dict[tuple[torch.device, torch.dtype], Tensor] = {}
        self._tables: dict[torch.device, _Tables] = {}

    @property
    def size_bytes(self) -> int:
        return sum(buffer.numel() * buffer.element_size() for buffer in self._buffers.values())

    def tables(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The 16 values of NF4's code and the 256 levels of its quantised scales, float32."""
        found = self._of(device)
        return found.code, found.levels

    def weight(self, quantized: Quantized | Quantized8, dtype: torch.dtype) -> Tensor:
        """Expand a weight into the buffer: its shape, in `dtype`."""
        if isinstance(quantized, Quantized8):
            return self._rows(quantized, dtype)
        device = quantized.packed.device
        size = math.prod(quantized.shape)
        whole = quantized.absmax.numel() * BLOCK
        buffer = self._buffer(device, dtype, whole)
        if _in_c(device, dtype):
            self._expand_in_c(quantized, buffer, size)
        elif self.compiled and size == whole:
            self._expand_compiled(quantized, buffer)
        elif dtype == torch.float32:
            self._expand(quantized.packed, self._scales(quantized), buffer)
        else:
            self._expand_in_pieces(quantized, buffer)
        return buffer[:size].view(quantized.shape)

    def _rows(self, quantized: Quantized8, dtype: torch.dtype) -> Tensor:
        rows, columns = quantized.q.shape
        weight = self._buffer(quantized.q.device, dtype, rows * columns).view(rows, columns)
        if _in_c(quantized.q.device, dtype):
            wide = int(dtype == torch.float32)
            call("budwood_int8_expand", quantized.q, quantized.scale, weight, rows, columns, wide)
            return weight
        if self.compiled:
            _compiled(_write_int8)(quantized.q, quantized.scale, weight)
            return weight
        step = max(1, _piece(weight.device) // columns)
        for start in range(0, rows, step):
            part = slice(start, start + step)
            weight[part] = dequantize8(Quantized8(quantized.q[part], quantized.scale[part], quantized.dtype), dtype)
        return weight

    def _expand_in_c(self, quantized: Quantized, buffer: Tensor, size: int) -> None:
        tables = self._of(buffer.device)
        nested, wide = quantized.nested, int(buffer.dtype == torch.float32)
        scales = [quantized.absmax, None, None, None, None]
        if nested is not None:
            scales = [None, quantized.absmax, tables.levels, nested.absmax, nested.offset]
        call("budwood_nf4_expand", quantized.packed, tables.code, *scales, buffer, size, wide)

    def _expand_compiled(self, quantized: Quantized, buffer: Tensor) -> None:
        tables, nested = self._of(buffer.device), quantized.nested
        if nested is None:
            _compiled(_write_nf4)(quantized.packed, quantized.absmax, tables.code, buffer)
        else:
            scales = (quantized.absmax, tables.levels, nested.absmax, nested.offset)
            _compiled(_write_nested_nf4)(quantized.packed, *scales, tables.code, buffer)

    def _expand_in_pieces(self, quantized: Quantized, buffer: Tensor) -> None:
        scales = self._scales(quantized)
        size = _piece(buffer.device)
        scratch = self._buffer(buffer.device, torch.float32, min(size, buffer.numel()))
        for start in range(0, buffer.numel(), size):
            end = min(start + size, buffer.numel())
            piece = scratch[: end - start]
            self._expand(quantized.packed[start // 2 : end // 2], scales[start // BLOCK : end // BLOCK], piece)
            buffer[start:end].copy_(piece)

    def _expand(self, packed: Tensor, scales: Tensor, out: Tensor) -> None:
        """Write code · scale for each nibble. `out` is float32 and whole blocks; what is left of a ragged last one is noise."""
        count = packed.numel()
        torch.index_select(self._of(packed.device).pairs, 0, packed.int(), out=out.view(torch.int64)[:count])
        out.view(-1, BLOCK).mul_(scales[:, None])

    def _scales(self, quantized: Quantized) -> Tensor:
        return block_scales(quantized, self._of(quantized.packed.device).levels)

    def _of(self, device: torch.device) -> _Tables:
        if device not in self._tables:
            with torch.inference_mode(False):
                code = code_table(device)
                byte = torch.arange(256, device=device)
                pairs = torch.stack([code[byte >> 4], code[byte & 15]], dim=1).view(torch.int64).reshape(-1)
                self._tables[device] = _Tables(pairs, dynamic_map(device), code)
        return self._tables[device]

    def _buffer(self, device: torch.device, dtype: torch.dtype, size: int) -> Tensor:
        buffer = self._buffers.get((device, dtype))
        if buffer is None or buffer.numel() < size:
            with torch.inference_mode(False):
                buffer = torch.empty(size, dtype=dtype, device=device)
            self._buffers[device, dtype] = buffer
        return buffer[:size]


@cache
def _compiled(write: Callable[..., None]) -> Callable[..., None]:
    return torch.compile(write, dynamic=True)


def _write_nested_nf4(
    packed: Tensor, absmax: Tensor, levels: Tensor, nested_absmax: Tensor, offset: Tensor, code: Tensor, out: Tensor
) -> None:
    blocks = torch.arange(len(absmax), device=absmax.device) // NESTED_BLOCK
    # In float64 the product is exact, so the cast rounds it once, as a product in float32 is rounded; and no compiler can
    # make one operation, rounded once, of it and the sum.
    scales = (levels[absmax.int()].double() * nested_absmax[blocks].double()).float() + offset
    _write_nf4(packed, scales, code, out)


def _write_nf4(packed: Tensor, scales: Tensor, code: Tensor, out: Tensor) -> None:
    nibbles = torch.stack([packed >> 4, packed & 15], dim=1).view(-1, BLOCK)
    out.view(-1, BLOCK).copy_(code[nibbles.int()] * scales[:, None])


def _write_int8(q: Tensor, scale: Tensor, out: Tensor) -> None:
    out.copy_(q * scale[:, None] * INVERSE)


def _piece(device: torch.device) -> int:
    return _GPU_PIECE if device.type == "cuda" else _PIECE


def _in_c(device: torch.device, dtype: torch.dtype) -> bool:
    return device.type == "cpu" and dtype in (torch.float32, torch.bfloat16) and not isinstance(kernels(), Missing)
