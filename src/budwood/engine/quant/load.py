"""Put 4-bit layers in the place of a model's linear layers, one at a time, so that the float weights leave as it goes."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from budwood.engine.quant.kernels import Workspace
from budwood.engine.quant.linear import Linear4bit
from budwood.engine.quant.nf4 import quantize
from budwood.errors import BaseError

_ROUTERS = frozenset({"router", "gate", "shared_expert_gate"})


@dataclass(frozen=True)
class QuantSummary:
    """What was quantised.

    Args:
        layers: paths of the layers that are in 4 bits now.
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


def quantize_linears(model: nn.Module, *, skip: Sequence[str] = ()) -> QuantSummary:
    """Quantise every linear layer in place. Embeddings, norms, the output head and routers stay as they are.

    Args:
        model: on its device, not attached to a bank yet.
        skip: further layers to leave: the end of a module path, or all of it.

    Raises:
        BaseError: a weight is not finite or of another dtype, or there is nothing to quantise.
    """
    workspace = Workspace()
    layers: list[str] = []
    parameters = before = after = 0
    for path in _paths(model, skip):
        parent, _, name = path.rpartition(".")
        holder = model.get_submodule(parent)
        module = getattr(holder, name)
        transposed = isinstance(module, Conv1D)
        weight: Tensor = module.weight
        layer = Linear4bit(
            quantize(weight, name=f"{path}.weight"), bias=module.bias, workspace=workspace, transposed=transposed
        ).train(module.training)
        layers.append(path)
        parameters += weight.numel()
        before += weight.numel() * weight.element_size()
        after += layer.quantized.size_bytes
        setattr(holder, name, layer)
        del module, weight
    if not layers:
        raise BaseError("This base has no linear layer to quantise.", mend="Use it unquantised.")
    return QuantSummary(tuple(layers), parameters, before, after, workspace)


def _paths(model: nn.Module, skip: Sequence[str]) -> list[str]:
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
