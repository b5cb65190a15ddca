"""Keys and values of the requests that are running: one slot each, grown when needed, never past a budget.

Per layer two tensors (rows, Hk, columns, D): a row is a slot, a column a position. They lie so that decoding reads slots
0..n-1 as one batched product without gathering, which is why the generator keeps its slots compact (`move`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FIRST_COLUMNS = 128


@dataclass
class _Layer:
    keys: Tensor
    values: Tensor


class SlotCache:
    """Holds at most `budget` tokens, counted as rows × columns.

    Args:
        max_rows: most slots at once.
        max_columns: longest request, in positions.
        budget: most rows × columns that may be allocated.
    """

    def __init__(self, *, max_rows: int, max_columns: int, budget: int) -> None:
        self.max_rows = max_rows
        self.max_columns = max_columns
        self.budget = budget
        self.rows = 0
        self.columns = 0
        self._layers: dict[int, _Layer] = {}

    def reserve(self, rows: int, columns: int) -> bool:
        """Make room for `rows` slots of `columns` positions; False, and nothing changed, if the budget forbids it.

        Only the sizes change here; each layer's tensors follow at its next use, so that two generations of one layer, and
        not of the whole cache, are alive while it is copied.
        """
        if rows > self.max_rows or columns > self.max_columns:
            return False
        if rows <= self.rows and columns <= self.columns:
            return True
        roomy = (
            max(self.rows, min(_power_of_two(rows), self.max_rows)),
            max(self.columns, min(_power_of_two(columns, FIRST_COLUMNS), self.max_columns)),
        )
        # Roomy first, so that growth is rare; then grown only as far as needed; then what was too much in the other
        # direction is given back: one long request must not lock out many short ones for ever.
        for shape in (roomy, (max(self.rows, rows), max(self.columns, columns)), (rows, columns)):
            if shape[0] * shape[1] <= self.budget:
                self.rows, self.columns = shape
                return True
        return False

    def layer(self, index: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer, (rows, Hk, columns, D) each, made or grown to the reserved size.

        Args:
            index: the layer.
            like: new keys of this layer, (T, Hk, D): gives heads, width, dtype and device.
        """
        held = self._layers.get(index)
        if held is None or held.keys.shape[0] != self.rows or held.keys.shape[2] != self.columns:
            shape = (self.rows, like.shape[1], self.columns, like.shape[2])
            # Zeros for the reason that `clear` gives.
            fresh = _Layer(like.new_zeros(shape), like.new_zeros(shape))
            if held is not None:
                rows, columns = min(self.rows, held.keys.shape[0]), min(self.columns, held.keys.shape[2])
                fresh.keys[:rows, :, :columns] = held.keys[:rows, :, :columns]
                fresh.values[:rows, :, :columns] = held.values[:rows, :, :columns]
            self._layers[index] = held = fresh
        return held.keys, held.values

    def copy(self, slot: int, start: int, end: int) -> Tensor:
        """Copy a slot's positions start..end out of all layers: (layers, 2, Hk, end - start, D), keys before values.

        All layers of a model have one shape of keys; bases where they differ are not copied from.
        """
        sides = [side[slot, :, start:end] for _, layer in sorted(self._layers.items()) for side in (layer.keys, layer.values)]
        return torch.stack(sides).view(-1, 2, *sides[0].shape)

    def put(self, slot: int, start: int, block: Tensor) -> None:
        """Write what `copy` gave into a slot, from position `start` on."""
        end = start + block.shape[3]
        for (keys, values), index in zip(block, sorted(self._layers), strict=True):
            layer_keys, layer_values = self.layer(index, keys.transpose(0, 1))
            layer_keys[slot, :, start:end] = keys
            layer_values[slot, :, start:end] = values

    @property
    def alike(self) -> bool:
        """Whether all layers that have been used hold keys of one shape."""
        return len({(layer.keys.shape[1], layer.keys.shape[3]) for layer in self._layers.values()}) == 1

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of one slot into another."""
        for layer in self._layers.values():
            layer.keys[target, :, :length] = layer.keys[source, :, :length]
            layer.values[target, :, :length] = layer.values[source, :, :length]

    def clear(self, slot: int, length: int) -> None:
        """Zero the first `length` positions of a slot.

        Whoever gets the slot next multiplies what lies beyond its own length by an exact 0, and 0 · NaN is NaN: one request
        with a broken adapter must not spoil its successors.
        """
        for layer in self._layers.values():
            layer.keys[slot, :, :length] = 0
            layer.values[slot, :, :length] = 0

    def release(self) -> None:
        """Give all memory back. No request may be running."""
        self._layers.clear()
        self.rows = self.columns = 0

    @property
    def size_bytes(self) -> int:
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self._layers.values())


def tokens_within(size_bytes: int, *, layers: int, heads: int, width: int, dtype: torch.dtype) -> int:
    """How many tokens' keys and values fit in `size_bytes`."""
    return size_bytes // (2 * layers * heads * width * dtype.itemsize)


def longest_batch(lengths: Sequence[int], row_cost: int) -> int:
    """How many columns the padded decode product should have.

    Rows longer than that are done one at a time, each at the price of `row_cost` padded positions' work. Returns the choice
    with the least work in all.
    """
    ordered = sorted(lengths)
    n = len(ordered)
    best, best_work = ordered[-1], n * ordered[-1]
    long = 0
    for index in range(n - 1, 0, -1):
        long += ordered[index] + row_cost
        work = n * ordered[index - 1] + long
        if work < best_work:
            best, best_work = ordered[index - 1], work
    return best


def _power_of_two(number: int, least: int = 1) -> int:
    return max(least, 1 << (number - 1).bit_length())
