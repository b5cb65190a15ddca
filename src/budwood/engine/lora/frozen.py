"""A base's linear layers as the adapter sees them: a product and its way back, whatever holds the weight.

The weight never gets a gradient, so nothing but the product with it is needed: forward, and the gradient of the input.
"""

from typing import Protocol, cast

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from budwood.engine.native.products import multiply
from budwood.engine.quant.linear import Linear4bit, Linear8bit, QuantizedLinear


class Frozen(Protocol):
    """A frozen linear layer. Its results are fresh tensors that the caller may write into."""

    def product(self, x: Tensor) -> Tensor:
        """(T, d_in) → (T, d_out), bias included."""
        ...

    def back(self, gradient: Tensor) -> Tensor:
        """(T, d_out) → (T, d_in): the gradient of the input."""
        ...


class Attached(nn.Module):
    """Mark of a module that stands in the place of one of the base's and holds it as `base`."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    @property
    def weight(self) -> Tensor:
        """The frozen weight: some models look at its dtype."""
        return self.base.weight  # type: ignore[return-value]  # an nn.Module attribute


class AttachedLinear(Attached):
    """The same for a linear layer."""


def is_linear(module: nn.Module) -> bool:
    """Whether this is one of the four kinds. A subclass may compute something else, so it does not count."""
    return type(module) in (nn.Linear, Conv1D, Linear4bit, Linear8bit)


def linear_shape(module: nn.Module) -> tuple[int, int]:
    """(d_out, d_in) of a linear layer, attached or not."""
    inner = module.base if isinstance(module, AttachedLinear) else module
    if isinstance(inner, Conv1D):
        return int(inner.nf), int(inner.nx)
    linear = cast(nn.Linear | QuantizedLinear, inner)
    return linear.out_features, linear.in_features


def is_transposed(module: nn.Module) -> bool:
    """Whether the weight is stored as (d_in, d_out)."""
    inner = module.base if isinstance(module, AttachedLinear) else module
    return isinstance(inner, Conv1D) or (isinstance(inner, QuantizedLinear) and inner.transposed)


def dense_weight(module: nn.Module) -> Tensor:
    """(d_out, d_in) in float32, of a quantised layer the expanded one: for what looks at the weight itself, once."""
    inner = module.base if isinstance(module, AttachedLinear) else module
    stored = inner.dequantized() if isinstance(inner, QuantizedLinear) else cast(Tensor, inner.weight)
    return (stored.T if is_transposed(inner) else stored).detach().float()


def frozen_linear(module: nn.Module) -> Frozen:
    """See a linear layer as a frozen product."""
    if isinstance(module, QuantizedLinear):
        return _Quantized(module)
    if isinstance(module, Conv1D):
        return _Conv1D(module)
    assert isinstance(module, nn.Linear)
    return _Dense(module)


class _Dense:
    def __init__(self, module: nn.Linear) -> None:
        self._module = module

    def product(self, x: Tensor) -> Tensor:
        return multiply(x, self._module.weight, bias=self._module.bias)

    def back(self, gradient: Tensor) -> Tensor:
        return multiply(gradient, self._module.weight, back=True)


class _Conv1D:
    """Weight (d_in, d_out): the other way round."""

    def __init__(self, module: Conv1D) -> None:
        self._module = module

    def product(self, x: Tensor) -> Tensor:
        return multiply(x, cast(Tensor, self._module.weight), back=True, bias=cast(Tensor, self._module.bias))

    def back(self, gradient: Tensor) -> Tensor:
        return multiply(gradient, cast(Tensor, self._module.weight))


class _Quantized:
    """Not the module itself: a module held by a module would appear twice in the state dict."""

    def __init__(self, module: QuantizedLinear) -> None:
        self._module = module

    def product(self, x: Tensor) -> Tensor:
        return self._module.product(x)

    def back(self, gradient: Tensor) -> Tensor:
        return self._module.back(gradient)
