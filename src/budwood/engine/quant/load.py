"""Put quantised layers in the place of a model's linear layers, one at a time, so that the float weights leave as it goes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from budwood.engine.quant.int8 import quantize8
from budwood.engine.quant.kernels import Workspace
from budwood.engine.quant.linear import Linear4bit, Linear8bit, QuantizedLinear
from budwood.engine.quant.nf4 import quantize
from budwood.errors import BaseError

Form = Literal["nf4", "int8"]

_ROUTERS = frozenset({"router", "gate", "shared_expert_gate"})


@dataclass(frozen=True)
class QuantSummary:
    """What was quantised.

    Args:
        layers: paths of the layers that are quantised now.
        parameters: weights in them.
        bytes_before: that these weights took.
        bytes_after: that they take now, scales included.
        workspace: the buffer that they share.
    """

    layers: tuple[str, ...]
    parameters: int
    bytes_before: int
    bytes_after: int
    workspace: Workspace


def quantize_linears(model: nn.Module, form: Form = "nf4", *, skip: Sequence[str] = ()) -> QuantSummary:
    """Quantise every linear layer in place. Embeddings, norms, the output head and routers stay as they are.

    Args:
        model: on its device, not attached to a bank yet.
        form: NF4 with double quantisation, or int8 by rows.
        skip: further layers to leave: the end of a module path, or all of it.

    Raises:
        BaseError: a weight is not finite or of another dtype, or there is nothing to quantise.
    """
    workspace = Workspace()
    parameters = before = after = 0
    paths = quantized_paths(model, skip)
    for path in paths:
        module = model.get_submodule(path)
        weight: Tensor = module.weight  # type: ignore[assignment]  # an nn.Module attribute
        bias: Tensor | None = module.bias  # type: ignore[assignment]  # an nn.Module attribute
        layer = quantized_layer(module, weight, form, name=f"{path}.weight", bias=bias, workspace=workspace)
        parameters += weight.numel()
        before += weight.numel() * weight.element_size()
        after += layer.quantized.size_bytes
        replace_module(model, path, layer.train(module.training))
        del module, weight
    if not paths:
        raise BaseError("This base has no linear layer to quantise.", mend="Use it unquantised.")
    return QuantSummary(tuple(paths), parameters, before, after, workspace)


def quantized_paths(model: nn.Module, skip: Sequence[str]) -> list[str]:
    """Name the layers that are quantised, in the model's order."""
    find = getattr(model, "get_output_embeddings", None)
    head = find() if callable(find) else None
    return [
        path
        for path, module in model.named_modules()
        if type(module) in (nn.Linear, Conv1D)
        and path
        and module is not head
        and _ROUTERS.isdisjoint(path.split("."))
        and not any(path == name or path.endswith(f".{name}") for name in skip)
    ]


def quantized_layer(
    module: nn.Module, weight: Tensor, form: Form, *, name: str, bias: Tensor | None, workspace: Workspace
) -> QuantizedLinear:
    """Make the layer for `module`'s place, from a weight that need not be the module's own.

    Raises:
        BaseError: the weight is not finite or of another dtype; `name` says which.
    """
    transposed = isinstance(module, Conv1D)
    if form == "nf4":
        return Linear4bit(quantize(weight, name=name), bias=bias, workspace=workspace, transposed=transposed)
    return Linear8bit(quantize8(weight, name=name), bias=bias, workspace=workspace, transposed=transposed)


def replace_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module at a path."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
