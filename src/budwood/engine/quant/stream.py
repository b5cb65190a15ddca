"""A base quantised while it is read: a tensor comes into memory, its layer is made, and the float weight leaves again.

The 16-bit model never lies in memory as a whole. It is for checkpoints that name every tensor as the model does. Where
transformers renames or joins tensors while it reads (experts of a mixture), the base is loaded first and quantised then: the
same bytes, in more memory.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from budwood.engine.quant.bnb_files import read_bnb
from budwood.engine.quant.kernels import Workspace
from budwood.engine.quant.load import Form, quantized_layer, quantized_paths, replace_module
from budwood.engine.tensor_names import model_name
from budwood.engine.weights import TensorEntry
from budwood.errors import BaseError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def load_streamed(
    config: "PreTrainedConfig", entries: Sequence[TensorEntry], form: Form, *, dtype: torch.dtype, attention: str
) -> nn.Module | None:
    """Build a model whose linear layers are quantised as its files are read.

    Args:
        config: of a supported family.
        entries: of the weight files.
        form: of the linear layers.
        dtype: of everything else, and of the weights before they are quantised.
        attention: name of the attention implementation.

    Returns:
        The model, on the CPU; None when the files' names are not the model's own, or something is missing.

    Raises:
        BaseError: a weight is not finite.
    """
    model = _hollow(config, dtype, attention)
    matched = _matched(model, entries)
    if matched is None:
        return None
    workspace = Workspace()
    layers = set(quantized_paths(model, ()))
    with _reading(entries) as read:
        for name, entry in matched.items():
            path, _, last = name.rpartition(".")
            if path not in layers:
                _fill(model, name, read(entry).to(dtype, copy=True))
            elif last == "weight":
                beside = matched.get(f"{path}.bias")
                bias = None if beside is None else read(beside).to(dtype)
                module, weight = model.get_submodule(path), read(entry).to(dtype)
                layer = quantized_layer(module, weight, form, name=name, bias=bias, workspace=workspace)
                replace_module(model, path, layer)
    model.tie_weights()  # type: ignore[operator]  # transformers' models have it
    return model


def load_prequantized(
    config: "PreTrainedConfig", entries: Sequence[TensorEntry], *, dtype: torch.dtype, attention: str, where: str
) -> nn.Module:
    """Build a model whose linear layers lie in its files in bitsandbytes' 4-bit form already; nothing is quantised again.

    Raises:
        BaseError: a layer's parts do not belong together, or tensors are missing or left over.
    """
    model = _hollow(config, dtype, attention)
    packed = {entry.name.partition(".weight.")[0] for entry in entries if ".weight.quant_state." in entry.name}
    stored = set(quantized_paths(model, ())) & packed
    parts = [entry for entry in entries if entry.name.rpartition(".")[0] in stored or ".weight." in entry.name]
    whole = [entry for entry in entries if entry not in parts]
    matched = _matched(model, whole, without=stored)
    if matched is None or packed - stored:
        raise BaseError(
            f"Its 4-bit files do not hold this model: {_strangers(model, whole, packed - stored)}.",
            where=where,
            mend="Download the base again, whole.",
        )
    workspace = Workspace()
    with _reading(entries) as read:
        for path in sorted(stored):
            own = [entry for entry in parts if entry.name == f"{path}.bias" or entry.name.startswith(f"{path}.weight")]
            tensors = {entry.name: read(entry).clone() for entry in own}
            if (bias := tensors.get(f"{path}.bias")) is not None:
                tensors[f"{path}.bias"] = bias.to(dtype)
            replace_module(model, path, read_bnb(path, tensors, workspace=workspace))
        for name, entry in matched.items():
            _fill(model, name, read(entry).to(dtype, copy=True))
    model.tie_weights()  # type: ignore[operator]  # transformers' models have it
    return model


def _strangers(model: nn.Module, entries: Sequence[TensorEntry], odd: set[str]) -> str:
    known = model.state_dict()
    names = sorted(odd) + sorted(entry.name for entry in entries if entry.name not in known)
    return f"{len(names)} tensors do not belong, first {names[0]}" if names else "tensors are missing"


class _EmptyOnMeta(TorchFunctionMode):
    """Weights are made by `torch.empty` and get no memory; tables such as a rotation's frequencies are computed as ever."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        if function is torch.empty:
            named["device"] = "meta"
        return function(*args, **named)


def _hollow(config: "PreTrainedConfig", dtype: torch.dtype, attention: str) -> nn.Module:
    from transformers import AutoModelForCausalLM

    make: Any = AutoModelForCausalLM  # from_config has no annotations
    with _EmptyOnMeta():
        model: nn.Module = make.from_config(config, dtype=dtype, attn_implementation=attention)
    return model


def _matched(model: nn.Module, entries: Sequence[TensorEntry], *, without: Iterable[str] = ()) -> dict[str, TensorEntry] | None:
    """Name in the model → entry, if every entry is one of the model's tensors and none is missing but tied ones.

    `without`: layers that are looked for elsewhere.
    """
    facts: Any = model  # transformers' own attributes
    left_out = tuple(f"{path}." for path in without)
    wanted: Mapping[str, Tensor] = {
        name: tensor for name, tensor in model.state_dict().items() if not name.startswith(left_out)
    }
    tied = set(facts.all_tied_weights_keys)
    passed_over = [re.compile(pattern) for pattern in facts._keys_to_ignore_on_load_unexpected or ()]
    found: dict[str, TensorEntry] = {}
    for entry in entries:
        name = model_name(entry.name, wanted, facts.base_model_prefix)
        if name is None:
            if any(pattern.search(entry.name) for pattern in passed_over):
                continue
            return None
        if name in found or name in tied or tuple(wanted[name].shape) != entry.shape:
            return None
        found[name] = entry
    return found if set(wanted) - tied == set(found) else None


@contextmanager
def _reading(entries: Sequence[TensorEntry]) -> "Iterator[Any]":
    with ExitStack() as stack:
        files = {path: stack.enter_context(safe_open(path, framework="pt")) for path in {entry.file for entry in entries}}
        yield lambda entry: files[entry.file].get_tensor(entry.name)


def _fill(model: nn.Module, name: str, tensor: Tensor) -> None:
    path, _, last = name.rpartition(".")
    holder = model.get_submodule(path)
    if last in holder._parameters:
        holder._parameters[last] = nn.Parameter(tensor, requires_grad=False)
    else:
        holder._buffers[last] = tensor
