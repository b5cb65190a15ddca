"""Frozen products that read one input, their results side by side, with the pairs beside them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from budwood.engine.lora.layer import LoraLinear
from budwood.engine.lora.pairs import Bundle, RunPair, add_pairs, back_to_input, join_pairs, read_pairs
from budwood.engine.native.products import Beside, multiplies, product
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
        if not multiplies(x, y):
            self._forward(y, x, rest)
            bundles = read_pairs(x, pairs)
            add_pairs(y, bundles)
            return bundles
        joint = join_pairs(x, pairs, self.width)
        for columns, layers in self._at_once():
            part = rest if rest is None else rest[:, columns]
            weights = [_weight(layer.base, x.dtype) for layer in layers]
            product(
                y[:, columns],
                x,
                weights,
                rest=part,
                bias=_bias(layers),
                pair=_pair(joint, None if joint is None else joint.inner, columns),
            )
        if joint is not None:
            return [joint]
        bundles = read_pairs(x, pairs)
        add_pairs(y, bundles)
        return bundles

    def read(self, x: Tensor, pairs: Sequence[RunPair]) -> list[Bundle]:
        """Give what `forward` gives, to the same bytes, without the results."""
        joint = join_pairs(x, pairs, self.width) if multiplies(x) else None
        if joint is None:
            return read_pairs(x, pairs)
        product(joint.inner, x, [joint.a])
        return [joint]

    def back(self, dx: Tensor | None, gradient: Tensor, bundles: Sequence[Bundle]) -> list[Tensor]:
        """Fill dx (T, d_in) from the results' gradient; give what the pairs' gradients need."""
        if not multiplies(gradient):
            self._back(dx, gradient)
            return back_to_input(dx, gradient, bundles)
        joint = bundles[0] if bundles and bundles[0].b is not None else None
        outer = None if joint is None else torch.empty_like(joint.inner)
        if dx is not None:
            self._back_at_once(dx, gradient, joint, outer)
        if joint is None or joint.b is None or outer is None:
            return back_to_input(dx, gradient, bundles)
        if dx is None:
            product(outer, gradient, [joint.b], back=True)
        return [outer]

    def _back_at_once(self, dx: Tensor, gradient: Tensor, joint: Bundle | None, outer: Tensor | None) -> None:
        for columns, layers in self._at_once():
            weights = [_weight(layer.base, gradient.dtype) for layer in layers]
            pair = _pair(joint, outer, columns)
            product(dx, gradient[:, columns], weights, back=True, rest=dx if columns.start else None, pair=pair)

    def _at_once(self) -> list[tuple[slice, list[LoraLinear]]]:
        """Layers whose weights are there together: all, or each alone where they are expanded into the shared buffer."""
        if len(self.layers) > 1 and any(isinstance(layer.base, QuantizedLinear) for layer in self.layers):
            return [(columns, [layer]) for layer, columns in zip(self.layers, self.columns, strict=True)]
        return [(slice(0, self.width), list(self.layers))]

    def _forward(self, y: Tensor, x: Tensor, rest: Tensor | None) -> None:
        for layer, columns in zip(self.layers, self.columns, strict=True):
            part = y if len(self.layers) == 1 else y[:, columns]
            weight = _weight(layer.base, x.dtype)
            if rest is None:
                torch.mm(x, weight.T, out=part)
            else:
                torch.addmm(rest, x, weight.T, out=part)
            if layer.bias is not None:
                part.add_(layer.bias)

    def _back(self, dx: Tensor | None, gradient: Tensor) -> None:
        if dx is None:
            return
        for layer, columns in zip(self.layers, self.columns, strict=True):
            part = gradient if len(self.layers) == 1 else gradient[:, columns]
            weight = _weight(layer.base, gradient.dtype)
            if columns.start == 0:
                torch.mm(part, weight, out=dx)
            else:
                dx.addmm_(part, weight)


def _pair(joint: Bundle | None, h: Tensor | None, columns: slice) -> Beside | None:
    """Cut out of joined pairs, and out of what they keep, those that add to some layers' columns."""
    if joint is None or joint.b is None or h is None:
        return None
    ends = accumulate((pair.a.shape[0] for pair in joint.pairs), initial=0)
    inside = [
        ranks
        for pair, ranks in zip(joint.pairs, pairwise(ends), strict=True)
        if columns.start <= pair.columns.start and pair.columns.stop <= columns.stop
    ]
    if not inside:
        return None
    ranks = slice(inside[0][0], inside[-1][1])
    return Beside(joint.a[ranks], joint.b[columns, ranks].contiguous(), h[:, ranks])


def _bias(layers: Sequence[LoraLinear]) -> Tensor | None:
    given = [layer.bias for layer in layers if layer.bias is not None]
    if not given:
        return None
    return torch.cat([given[0].new_zeros(layer.out_features) if layer.bias is None else layer.bias for layer in layers])


def _weight(base: nn.Module, dtype: torch.dtype) -> Tensor:
    """(d_out, d_in); of a quantised layer in the shared buffer, whole until the next one is expanded."""
    if isinstance(base, QuantizedLinear):
        return base.expanded(dtype)
    weight: Tensor = base.weight  # type: ignore[assignment]  # an nn.Module attribute
    return weight
