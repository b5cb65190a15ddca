"""Frozen linear layers whose weight is stored in 4 or 8 bits.

The weight is expanded into the shared workspace for the product and again for the gradient of the input; nothing but the
stored bytes is kept between the two. Forward and backward use one and the same rule: the form's product in float32, cast once
to the input's dtype.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from budwood.engine.native.products import multiply
from budwood.engine.quant.int8 import Quantized8, dequantize8
from budwood.engine.quant.kernels import Workspace
from budwood.engine.quant.nf4 import Nested, Quantized, dequantize


class QuantizedLinear(nn.Module):
    """y = x Wᵀ + bias with a quantised W.

    Args:
        shape: of the stored weight: (d_out, d_in), or (d_in, d_out) if `transposed`.
        bias: (d_out,) or None.
        transposed: stored as transformers' Conv1D stores it.
        workspace: the buffer that all layers of the model share.
    """

    def __init__(self, shape: tuple[int, ...], *, bias: Tensor | None, transposed: bool, workspace: Workspace) -> None:
        super().__init__()
        rows, columns = shape
        self.out_features, self.in_features = (columns, rows) if transposed else (rows, columns)
        self.transposed = transposed
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.workspace = workspace

    @property
    def quantized(self) -> Quantized | Quantized8:
        """The stored weight."""
        raise NotImplementedError

    def expanded(self, dtype: torch.dtype) -> Tensor:
        """(d_out, d_in) in the shared buffer: whole until another layer is expanded."""
        weight = self.workspace.weight(self.quantized, dtype)
        return weight.T if self.transposed else weight

    def dequantized(self) -> Tensor:
        """The stored weight in a tensor of its own, in the dtype that it was quantised from."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(…, d_in) → (…, d_out) in x's dtype."""
        flat = x.reshape(-1, self.in_features)
        tracked = torch.is_grad_enabled() and flat.requires_grad
        y = cast(Tensor, _Product.apply(flat, self)) if tracked else self.product(flat)  # type: ignore[no-untyped-call]
        return y.view(*x.shape[:-1], self.out_features)

    def product(self, x: Tensor) -> Tensor:
        """(T, d_in) → (T, d_out), bias included, without gradients."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return multiply(x, self.expanded(x.dtype), bias=bias)

    def back(self, gradient: Tensor) -> Tensor:
        """(T, d_out) → (T, d_in): the gradient of the input."""
        return multiply(gradient, self.expanded(gradient.dtype), back=True)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Linear4bit(QuantizedLinear):
    """A linear layer in NF4.

    Args:
        quantized: W as (d_out, d_in), or as (d_in, d_out) if `transposed`.
        bias: (d_out,) or None.
        transposed: stored as transformers' Conv1D stores it.
        workspace: the buffer that all layers of the model share.
    """

    packed: Tensor
    absmax: Tensor
    nested_absmax: Tensor | None
    offset: Tensor | None

    def __init__(self, quantized: Quantized, *, bias: Tensor | None, workspace: Workspace, transposed: bool = False) -> None:
        super().__init__(quantized.shape, bias=bias, transposed=transposed, workspace=workspace)
        self.weight_dtype = quantized.dtype
        nested = quantized.nested
        self.register_buffer("packed", quantized.packed)
        self.register_buffer("absmax", quantized.absmax)
        self.register_buffer("nested_absmax", nested.absmax if nested else None)
        self.register_buffer("offset", nested.offset if nested else None)

    @property
    def quantized(self) -> Quantized:
        """The stored weight."""
        nested = None
        if self.nested_absmax is not None and self.offset is not None:
            nested = Nested(self.nested_absmax, self.offset)
        rows, columns = self.out_features, self.in_features
        shape = (columns, rows) if self.transposed else (rows, columns)
        return Quantized(self.packed, self.absmax, nested, shape, self.weight_dtype)

    def dequantized(self) -> Tensor:
        """The stored weight in a tensor of its own, in the dtype that it was quantised from."""
        return dequantize(self.quantized, self.weight_dtype)


class Linear8bit(QuantizedLinear):
    """A linear layer in int8, one scale a row of the stored weight.

    Args:
        quantized: W as (d_out, d_in), or as (d_in, d_out) if `transposed`.
        bias: (d_out,) or None.
        transposed: stored as transformers' Conv1D stores it.
        workspace: the buffer that all layers of the model share.
    """

    q: Tensor
    scale: Tensor

    def __init__(self, quantized: Quantized8, *, bias: Tensor | None, workspace: Workspace, transposed: bool = False) -> None:
        rows, columns = quantized.q.shape
        super().__init__((rows, columns), bias=bias, transposed=transposed, workspace=workspace)
        self.weight_dtype = quantized.dtype
        self.register_buffer("q", quantized.q)
        self.register_buffer("scale", quantized.scale)

    @property
    def quantized(self) -> Quantized8:
        """The stored weight."""
        return Quantized8(self.q, self.scale, self.weight_dtype)

    def dequantized(self) -> Tensor:
        """The stored weight in a tensor of its own, in the dtype that it was quantised from."""
        return dequantize8(self.quantized, self.weight_dtype)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantizedLinear) -> Tensor:
        ctx.layer = layer
        return layer.product(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.layer.back(gradient), None
