"""Rows laid end to end: what one forward pass takes, and which rows share a pass.

No row is padded. Where products want rounded lengths (`product_lengths`), a few tokens that nobody reads follow the last row,
as a row of their own. Attention alone needs rectangles: rows of similar length are gathered into small ones
(`Layout`), so that one batched product serves many short rows; what hangs over the end of a row is masked by causality and
thrown away.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from budwood.engine.product_lengths import rounded_up
from budwood.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLACK = 1.25
"""A rectangle's longest row is at most this many times its shortest: bounds the work wasted on overhang."""


@dataclass(frozen=True)
class Encoded:
    """One row as tokens: `supervised[i]` says that token i is one the model shall learn to produce."""

    ids: tuple[int, ...]
    supervised: tuple[bool, ...]


@dataclass(frozen=True)
class Layout:
    """How the rows of a batch are gathered for attention.

    Args:
        shapes: of each rectangle: rows, longest row.
        gather: (M,) int64: which token stands at each place of the rectangles, laid flat one after the other; beyond a
            row's end its last token is repeated.
        overhang: (M,) bool: places beyond a row's end; None when there are none.
        inverse: (T,) int64: the place of each token.
        cu_seqlens: (S + 1,) int32, from 0 to T: for kernels that need no rectangles.
        made: what a kernel has made of the rows, by a key of its own: once a pass, for all layers.
    """

    shapes: tuple[tuple[int, int], ...]
    gather: Tensor
    overhang: Tensor | None
    inverse: Tensor
    cu_seqlens: Tensor
    made: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class PackedBatch:
    """T tokens of S rows, end to end.

    Args:
        input_ids: (T,) int64; after the rows' own tokens, those that round the length up.
        position_ids: (T,) int64, from 0 in every row.
        cu_seqlens: (S + 1,) int32, from 0 to T.
        max_length: longest row.
        tokens: of the rows.
        supervised: (N,) int64: positions whose output predicts a supervised token.
        targets: (N,) int64: the tokens they have to predict.
        asked: (M,) int64: the supervised positions, then others that nobody reads, which round the number up.
        layout: for attention.
    """

    input_ids: Tensor
    position_ids: Tensor
    cu_seqlens: Tensor
    max_length: int
    tokens: int
    supervised: Tensor
    targets: Tensor
    asked: Tensor
    layout: Layout


def pack(rows: Sequence[Encoded], device: torch.device | str = "cpu", *, multiple: int = 1) -> PackedBatch:
    """Lay rows end to end on a device. A row's first token is never a target: nothing precedes it.

    On the way to a GPU they are copied from pinned memory, so that nobody waits for the copy.

    Args:
        rows: in order.
        device: where the batch lies.
        multiple: what the numbers of tokens and of positions asked for are rounded up to, as far as there are positions.

    Raises:
        DataError: no rows, or a row without tokens.
    """
    empty = next((place for place, row in enumerate(rows) if not row.ids), None)
    if empty is not None or not rows:
        what = "There are no rows to pack." if empty is None else f"Row {empty} of the batch has no tokens."
        raise DataError(what, where="a packed batch", mend="Drop such rows before they are packed.")
    tokens = sum(len(row.ids) for row in rows)
    filling = rounded_up(tokens, multiple) - tokens
    if filling:
        rows = [*rows, Encoded((0,) * filling, (False,) * filling)]
    lengths = np.array([len(row.ids) for row in rows], dtype=np.int64)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    ids = np.concatenate([np.asarray(row.ids, dtype=np.int64) for row in rows])
    marks = np.concatenate([np.asarray(row.supervised, dtype=bool) for row in rows])
    marks[starts] = False
    targets = np.flatnonzero(marks)
    positions = np.arange(len(ids)) - np.repeat(starts, lengths)
    place = torch.device(device)
    layout = _lay_out(starts, lengths, place)
    return PackedBatch(
        input_ids=_put(ids, place),
        position_ids=_put(positions, place),
        cu_seqlens=layout.cu_seqlens,
        max_length=int(lengths.max()),
        tokens=tokens,
        supervised=_put(targets - 1, place),
        targets=_put(ids[targets], place),
        asked=_put(_rounded(targets - 1, len(ids), multiple), place),
        layout=layout,
    )


def _rounded(positions: "NDArray[np.int64]", tokens: int, multiple: int) -> "NDArray[np.int64]":
    """Positions, and the first of the others behind them."""
    missing = rounded_up(len(positions), multiple) - len(positions)
    others = np.setdiff1d(np.arange(tokens), positions, assume_unique=True)[:missing]
    return np.concatenate([positions, others])


def _put(values: "NDArray[Any]", device: torch.device) -> Tensor:
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _lay_out(starts: "NDArray[np.int64]", lengths: "NDArray[np.int64]", device: torch.device) -> Layout:
    inverse = np.empty(int(lengths.sum()), dtype=np.int64)
    shapes: list[tuple[int, int]] = []
    gathers: list[NDArray[np.int64]] = []
    reals: list[NDArray[np.bool_]] = []
    order = np.argsort(-lengths, kind="stable")
    offset = first = 0
    while first < len(order):
        longest = int(lengths[order[first]])
        inside = order[first:][lengths[order[first:]] * SLACK >= longest]
        columns = np.arange(longest)
        rectangle = starts[inside, None] + np.minimum(columns, lengths[inside, None] - 1)
        real = columns < lengths[inside, None]
        places = offset + np.arange(rectangle.size).reshape(rectangle.shape)
        inverse[rectangle[real]] = places[real]
        shapes.append((len(inside), longest))
        gathers.append(rectangle.ravel())
        reals.append(real.ravel())
        offset += rectangle.size
        first += len(inside)
    overhang = ~np.concatenate(reals)
    return Layout(
        shapes=tuple(shapes),
        gather=_put(np.concatenate(gathers), device),
        overhang=_put(overhang, device) if overhang.any() else None,
        inverse=_put(inverse, device),
        cu_seqlens=_put(np.append(starts, starts[-1] + lengths[-1]).astype(np.int32), device),
    )


def plan_passes(lengths: "Sequence[int] | NDArray[np.int64]", budget: int, *, seed: int, epoch: int) -> list[list[int]]:
    """Share out the rows of an epoch over passes of at most `budget` tokens, every row exactly once: see `order_passes`."""
    order, ends = order_passes(np.asarray(lengths, dtype=np.int64), budget, seed=seed, epoch=epoch)
    return [part.tolist() for part in np.split(order, ends[:-1])] if len(order) else []


def order_passes(
    sizes: "NDArray[np.int64]", budget: int, *, seed: int, epoch: int
) -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
    """Share out the rows of an epoch over passes of at most `budget` tokens, every row exactly once.

    Rows are shuffled, sorted by length inside windows of several passes, and filled up in that order; then the passes are
    shuffled. So a pass holds rows of similar length (cheap attention), while which rows meet stays random. A row that is
    longer than the budget gets a pass of its own. The same arguments give the same plan on any machine.

    Returns:
        The rows, one pass behind the other, and where each pass ends.
    """
    generator = np.random.Generator(np.random.PCG64([seed, epoch]))
    order = generator.permutation(len(sizes))
    window = max(1, int(16 * budget / max(1.0, float(sizes.mean())))) if len(sizes) else 1
    ends: list[NDArray[np.int64]] = []
    for start in range(0, len(order), window):
        part = order[start : start + window]
        part = part[np.argsort(sizes[part], kind="stable")]
        order[start : start + window] = part
        ends.append(start + fill(sizes[part], budget))
    all_ends = np.concatenate([*ends, np.zeros(0, dtype=np.int64)])
    starts = np.append(0, all_ends[:-1])
    shuffled = generator.permutation(len(all_ends))
    counts = (all_ends - starts)[shuffled] if len(all_ends) else all_ends
    new_ends = np.cumsum(counts)
    # Row k of a shuffled pass stands where that pass begins in the old order, plus k.
    offsets = np.repeat(starts[shuffled] - (new_ends - counts), counts) if len(all_ends) else all_ends
    return order[np.arange(len(order)) + offsets], new_ends


def fill(sizes: "NDArray[np.int64]", budget: int) -> "NDArray[np.int64]":
    """Cut a sequence into runs whose sizes add up to at most `budget`, or that have one member; give where each ends."""
    reached = np.cumsum(sizes)
    ends: list[int] = []
    at = used = 0
    while at < len(sizes):
        at = max(at + 1, int(np.searchsorted(reached, used + budget, side="right")))
        used = int(reached[at - 1])
        ends.append(at)
    return np.asarray(ends, dtype=np.int64)
