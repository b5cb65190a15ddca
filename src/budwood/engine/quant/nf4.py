"""NF4 in blocks of 64 with double quantisation in blocks of 256: reference form, bit for bit bitsandbytes' CPU path.

A weight becomes one nibble each (index into CODE), a scale for each 64 of them (absmax), and the scales themselves become
bytes (index into the dynamic map) with a scale for each 256 of those and one common offset.

Source: arXiv:2305.14314, section 3; bitsandbytes 0.50.2, held to it by tests/engine/quant/test_against_bitsandbytes.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from budwood.errors import BaseError

BLOCK = 64
NESTED_BLOCK = 256
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

CODE = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
"""The 16 levels: quantiles of a normal, scaled to [-1, 1]."""

_TINY = 1e-38  # bitsandbytes' floor for absmax, so that a block of zeros does not divide by zero
_BINS = 65536
_STEPS = 128
_PIECE = 1 << 16  # values at once: what is made on the way stays in the cache


@dataclass(frozen=True)
class Nested:
    """How the bytes in `Quantized.absmax` become scales: dynamic map · absmax of their 256-block + offset."""

    absmax: Tensor
    offset: Tensor


@dataclass(frozen=True)
class Quantized:
    """A weight of n elements in 4 bits.

    Args:
        packed: (ceil(n / 2),) uint8, the even element in the high nibble.
        absmax: (ceil(n / 64),) uint8 with `nested`, else float32.
        nested: `absmax` (ceil(n / 64 / 256),) and `offset` (), float32; None: scales are stored plainly.
        shape: of the weight.
        dtype: that the weight had.
    """

    packed: Tensor
    absmax: Tensor
    nested: Nested | None
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size_bytes(self) -> int:
        tensors = [self.packed, self.absmax, *([self.nested.absmax, self.nested.offset] if self.nested else [])]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def quantize(weight: Tensor, *, double: bool = True, name: str = "weight") -> Quantized:
    """Quantize a weight; blocks run over the flat tensor, across rows.

    Args:
        weight: float32, bfloat16 or float16, any shape, not empty.
        double: quantise the scales too.
        name: for messages.

    Raises:
        BaseError: another dtype, no elements, or a value that is not finite: one NaN would spoil its whole block in silence.
    """
    check_weight(weight, name)
    indices, absmax = _to_code(weight.detach().reshape(-1).float())
    packed = (indices[::2] << 4) | indices[1::2]
    shape = tuple(weight.shape)
    if not double:
        return Quantized(packed, absmax, None, shape, weight.dtype)
    offset = one_thread_mean(absmax)
    codes, nested = _to_dynamic(absmax - offset)
    return Quantized(packed, codes, Nested(nested, offset), shape, weight.dtype)


def check_weight(weight: Tensor, name: str) -> None:
    """Raise BaseError for what cannot be quantised: another dtype, no elements, or a value that is not finite."""
    if weight.dtype not in DTYPES or weight.numel() == 0:
        raise BaseError(
            f"{name} cannot be quantised: {weight.dtype}, shape {tuple(weight.shape)}.",
            mend="Only float32, bfloat16 or float16 weights that are not empty can be.",
        )
    # The largest magnitude is not finite where any value is not: one reading, and nothing of the weight's size is made.
    low, high = torch.aminmax(weight.detach())
    if not bool(torch.isfinite(low) & torch.isfinite(high)):
        bad = int((~torch.isfinite(weight.detach())).sum())
        raise BaseError(f"{name} has {bad} values that are NaN or infinite.", mend="The base is damaged: fetch it again.")


def dequantize(quantized: Quantized, dtype: torch.dtype) -> Tensor:
    """Give the weight back: code · absmax in float32, then one cast. The same bits on every machine."""
    high, low = quantized.packed >> 4, quantized.packed & 15
    indices = torch.stack([high, low], dim=1).reshape(-1)
    size = _numel(quantized.shape)
    values = code_table(indices.device)[indices.long()][:size]
    scales = block_scales(quantized).repeat_interleave(BLOCK)[:size]
    return (values * scales).to(dtype).reshape(quantized.shape)


def block_scales(quantized: Quantized, levels: Tensor | None = None) -> Tensor:
    """Give the scale of each block, (ceil(n / 64),) float32. `levels`: the dynamic map, if the caller has it."""
    if quantized.nested is None:
        return quantized.absmax
    table = dynamic_map(quantized.absmax.device) if levels is None else levels
    blocks = quantized.absmax.numel()
    found = torch.nn.functional.pad(table[quantized.absmax.int()], (0, -blocks % NESTED_BLOCK)).view(-1, NESTED_BLOCK)
    return (found * quantized.nested.absmax[:, None]).view(-1)[:blocks] + quantized.nested.offset


def code_table(device: torch.device) -> Tensor:
    """Give CODE as (16,) float32."""
    return torch.tensor(CODE, dtype=torch.float32, device=device)


def dynamic_map(device: torch.device) -> Tensor:
    """Give the 256 levels of an 8-bit scale, (256,) float32, rising: finer towards zero, a power of ten a bit.

    For i in 0..6: the midpoints of 2^i equal pieces of 0.1..1, times 10^(i - 6), with both signs; and 0 and 1.
    """
    positive = []
    for exponent in range(7):
        edges = torch.linspace(0.1, 1, (1 << exponent) + 1, dtype=torch.float32)
        positive.append((edges[:-1] + edges[1:]) / 2 * 10 ** (exponent - 6))
    levels = torch.cat(positive)
    table = torch.cat([levels, -levels, torch.tensor([0.0, 1.0])])
    return table.sort().values.to(device)


def one_thread_mean(values: Tensor) -> Tensor:
    """Mean of a flat float32 tensor, summed in the order of one thread whatever the number of threads.

    torch cuts a long sum into a piece for each thread, which moves the last bit. Two equal rows are cut between the rows
    instead, so each is summed whole.
    """
    return torch.stack([values, values]).mean(dim=1)[0]


def _to_code(flat: Tensor) -> tuple[Tensor, Tensor]:
    """Index of each value in CODE, filled up to an even count, and absmax of each block."""
    full = flat.numel() // BLOCK * BLOCK
    blocks, tail = flat[:full].view(-1, BLOCK), flat[full:]
    absmax = blocks.abs().amax(dim=1)
    scaled = (blocks * (1.0 / absmax.clamp(min=_TINY))[:, None]).clamp(-1, 1).reshape(-1)
    if tail.numel():
        # A ragged last block is divided, not multiplied by the reciprocal, and its absmax is stored with the floor.
        last = tail.abs().amax().clamp(min=_TINY)
        absmax = torch.cat([absmax, last[None]])
        scaled = torch.cat([scaled, (tail / last).clamp(-1, 1)])
    if scaled.numel() % 2:
        scaled = torch.cat([scaled, scaled.new_zeros(1)])
    return _nearest(scaled), absmax


def _nearest(scaled: Tensor) -> Tensor:
    """Give `torch.bucketize(scaled, thresholds)` as bytes: how many thresholds lie strictly below each value.

    The thresholds are wider apart than 1/128, so a bin of that width holds at most one: its table says how many lie below
    the bin, and one comparison does the rest. 2.6 ms for a million values where bucketize takes 40 (one core).
    """
    code = code_table(scaled.device)
    thresholds = (code[:-1] + code[1:]) / 2
    edges = (torch.arange(2 * _STEPS + 1, device=scaled.device) - _STEPS) / _STEPS
    below = torch.bucketize(edges, thresholds, out_int32=True).to(torch.uint8)
    following = torch.cat([thresholds, thresholds.new_full((1,), 2.0)])[below.long()]
    indices = torch.empty(scaled.numel(), dtype=torch.uint8, device=scaled.device)
    for start in range(0, scaled.numel(), _PIECE):
        values, out = scaled[start : start + _PIECE], indices[start : start + _PIECE]
        bins = torch.add(_STEPS, values, alpha=_STEPS).int()
        torch.index_select(below, 0, bins, out=out)
        out += (values > following.index_select(0, bins)).view(torch.uint8)
    return indices


def _to_dynamic(values: Tensor) -> tuple[Tensor, Tensor]:
    """Byte of each scale in the dynamic map, and absmax of each block of 256.

    bitsandbytes' CPU kernel looks a value up in 65,536 bins, each with the level nearest to its centre, so near zero it may
    be one or two levels off the nearest. We do as it does; a block of zeros becomes bytes 0, as there.
    """
    blocks = -(-values.numel() // NESTED_BLOCK)
    padded = torch.nn.functional.pad(values, (0, blocks * NESTED_BLOCK - values.numel())).view(blocks, NESTED_BLOCK)
    absmax = padded.abs().amax(dim=1)
    inverse = torch.where(absmax > 0, 1.0 / absmax, absmax)
    scaled = (padded * inverse[:, None]).clamp(-1, 1).reshape(-1)[: values.numel()]
    bins = ((scaled + 1.0) * 0.5 * (_BINS - 1) + 0.5).to(torch.int64).clamp(0, _BINS - 1)
    codes = _bin_levels(values.device)[bins]
    return codes.masked_fill_((absmax == 0).repeat_interleave(NESTED_BLOCK)[: codes.numel()], 0), absmax


def _bin_levels(device: torch.device) -> Tensor:
    centres = -1.0 + 2.0 * torch.arange(_BINS, dtype=torch.float32) / (_BINS - 1)
    table = dynamic_map(torch.device("cpu"))
    above = torch.searchsorted(table, centres).clamp(1, 255)
    nearer_below = (centres - table[above - 1]).abs() <= (table[above] - centres).abs()
    return torch.where(nearer_below, above - 1, above).to(torch.uint8).to(device)


def _numel(shape: Sequence[int]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size
