"""Frozen products that read one input, their results side by side, with the pairs beside them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from budwood.engine.lora.layer import LoraLinear
from budwood.engine.lora.pairs import Bundle, RunPair, add_pairs, back_to_input, read_pairs
from budwood.engine.quant.linear import QuantizedLinear


@dataclass(frozen=True)
class Products:
    """Layers that read one input: q, k and v; gate and up; or one alone.

    Args:
        layers: in the order of their columns.
        columns: of each layer's result in the joint one.
    """

    layers: tuple[LoraLinear, ...]
    columns: tuple[slice, ...]

    @classmethod
    def of(cls, *layers: LoraLinear) -> "Products":
        columns: list[slice] = []
        start = 0
        for layer in layers:
            columns.append(slice(start, start + layer.out_features))
            start += layer.out_features
        return cls(layers, tuple(columns))

    @property
    def width(self) -> int:
        return int(self.columns[-1].stop)

    def active(self, x: Tensor) -> list[RunPair]:
        """The pairs at work on x's tokens, in the order of the layers."""
        return [
            replace(pair, columns=columns)
            for layer, columns in zip(self.layers, self.columns, strict=True)
            for pair in layer.active(len(x), x.device)
        ]

    def forward(self, y: Tensor, x: Tensor, pairs: Sequence[RunPair], *, rest: Tensor | None = None) -> list[Bundle]:
        """Fill y (T, width) with the results on x (T, d_in), plus `rest`; give what the way back needs of the pairs."""
        for layer, columns in zip(self.layers, self.columns, strict=True):
            part = y if len(self.layers) == 1 else y[:, columns]
            weight = _weight(layer.base, x.dtype)
            if rest is None:
                torch.mm(x, weight.T, out=part)
            else:
                torch.addmm(rest, x, weight.T, out=part)
            if layer.bias is not None:
                part.add_(layer.bias)
        bundles = read_pairs(x, pairs)
        add_pairs(y, bundles)
        return bundles

    def back(self, dx: Tensor | None, gradient: Tensor, bundles: Sequence[Bundle]) -> list[Tensor]:
        """Fill dx (T, d_in) from the results' gradient; give what the pairs' gradients need."""
        if dx is not None:
            for layer, columns in zip(self.layers, self.columns, strict=True):
                part = gradient if len(self.layers) == 1 else gradient[:, columns]
                weight = _weight(layer.base, gradient.dtype)
                if columns.start == 0:
                    torch.mm(part, weight, out=dx)
                else:
                    dx.addmm_(part, weight)
        return back_to_input(dx, gradient, bundles)


def _weight(base: nn.Module, dtype: torch.dtype) -> Tensor:
    """(d_out, d_in); of a quantised layer in the shared buffer, whole until the next one is expanded."""
    if isinstance(base, QuantizedLinear):
        return base.expanded(dtype)
    weight: Tensor = base.weight  # type: ignore[assignment]  # an nn.Module attribute
    return weight
