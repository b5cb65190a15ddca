"""bitsandbytes' form of a 4-bit linear layer in a safetensors file: its tensors by name, both ways.

For a layer `L`: `L.weight` (n / 2, 1) bytes, `L.weight.absmax`, `L.weight.quant_map`, with double quantisation
`L.weight.nested_absmax` and `L.weight.nested_quant_map`, `L.weight.quant_state.bitsandbytes__nf4` (JSON as bytes), `L.bias`.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from budwood.engine.quant.kernels import Workspace
from budwood.engine.quant.linear import Linear4bit
from budwood.engine.quant.nf4 import BLOCK, DTYPES, NESTED_BLOCK, Nested, Quantized, code_table, dynamic_map
from budwood.errors import BaseError

_STATE = "quant_state.bitsandbytes__"
_DTYPE_NAMES = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES}


def bnb_tensors(name: str, layer: Linear4bit) -> dict[str, Tensor]:
    """Give a layer's tensors under the names that bitsandbytes loads.

    Raises:
        BaseError: the layer is stored transposed, a form that bitsandbytes does not have.
    """
    if layer.transposed:
        raise BaseError(
            f"{name} is a Conv1D, stored as (d_in, d_out); bitsandbytes has no such 4-bit layer.",
            mend="Export the unquantised base instead.",
        )
    quantized = layer.quantized
    state: dict[str, Any] = {
        "quant_type": "nf4",
        "blocksize": BLOCK,
        "dtype": str(quantized.dtype).removeprefix("torch."),
        "shape": list(quantized.shape),
    }
    tensors = {
        f"{name}.weight": quantized.packed[:, None],
        f"{name}.weight.absmax": quantized.absmax,
        f"{name}.weight.quant_map": code_table(quantized.packed.device),
    }
    if quantized.nested is not None:
        state |= {"nested_blocksize": NESTED_BLOCK, "nested_dtype": "float32", "nested_offset": float(quantized.nested.offset)}
        tensors[f"{name}.weight.nested_absmax"] = quantized.nested.absmax
        tensors[f"{name}.weight.nested_quant_map"] = dynamic_map(quantized.packed.device)
    text = bytearray(json.dumps(state).encode())
    tensors[f"{name}.weight.{_STATE}nf4"] = torch.frombuffer(text, dtype=torch.uint8)
    if layer.bias is not None:
        tensors[f"{name}.bias"] = layer.bias.detach()
    return tensors


def bnb_config(dtype: torch.dtype) -> dict[str, Any]:
    """What config.json's `quantization_config` says of such files, with products in `dtype`."""
    return {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": str(dtype).removeprefix("torch."),
        "bnb_4bit_quant_storage": "uint8",
    }


def save_bnb_model(model: nn.Module, folder: Path) -> None:
    """Write a model with 4-bit layers as a folder that transformers loads with bitsandbytes: config and one weight file.

    Args:
        model: from `load_base(..., quantization="nf4")`, without a bank.
        folder: made if need be; tokenizer files are the caller's.

    Raises:
        BaseError: a layer is stored transposed, a form that bitsandbytes does not have.
    """
    layers = {path: module for path, module in model.named_modules() if isinstance(module, Linear4bit)}
    tensors: dict[str, Tensor] = {}
    for path, layer in layers.items():
        tensors |= bnb_tensors(path, layer)
    facts: Any = model  # transformers' own attributes
    tied = set(facts.all_tied_weights_keys)
    for name, tensor in model.state_dict().items():
        if name not in tied and name.rpartition(".")[0] not in layers:
            tensors[name] = tensor
    folder.mkdir(parents=True, exist_ok=True)
    config = facts.config.to_dict() | {"quantization_config": bnb_config(next(model.parameters()).dtype)}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors", {"format": "pt"})


def read_bnb(name: str, tensors: Mapping[str, Tensor], *, workspace: Workspace) -> Linear4bit:
    """Make a layer from bitsandbytes' tensors; names of other layers are not looked at.

    Args:
        name: of the layer.
        tensors: of a file, or several.
        workspace: see `Linear4bit`.

    Raises:
        BaseError: a tensor is missing, left over or of another shape or dtype; the type is not NF4 in blocks of 64; the
            tables are not NF4's own (bitsandbytes would compute with its own and not say so).
    """
    parts = {key.removeprefix(f"{name}.weight."): value for key, value in tensors.items() if key.startswith(f"{name}.weight.")}
    states = [key for key in parts if key.startswith("quant_state.")]
    if states != [f"{_STATE}nf4"]:
        raise _refuse(name, f"its quantisation state is {', '.join(states) or 'missing'}, not bitsandbytes__nf4")
    state = _state(name, parts.pop(states[0]))
    nested = "nested_blocksize" in state
    wanted = {"absmax", "quant_map", *(("nested_absmax", "nested_quant_map") if nested else ())}
    if set(parts) != wanted or f"{name}.weight" not in tensors:
        raise _refuse(name, f"it has the parts {', '.join(sorted(parts))}, not weight, {', '.join(sorted(wanted))}")
    device = parts["absmax"].device
    _check_table(name, "quant_map", parts["quant_map"], code_table(device))
    quantized = _quantized(name, tensors[f"{name}.weight"], parts, state, nested)
    return Linear4bit(quantized, bias=tensors.get(f"{name}.bias"), workspace=workspace)


def _quantized(name: str, packed: Tensor, parts: Mapping[str, Tensor], state: Mapping[str, Any], nested: bool) -> Quantized:
    shape = tuple(state["shape"])
    size = math.prod(shape)
    blocks = -(-size // BLOCK)
    _check_tensor(name, "weight", packed.reshape(-1), -(-size // 2), torch.uint8)
    _check_tensor(name, "absmax", parts["absmax"], blocks, torch.uint8 if nested else torch.float32)
    second = None
    if nested:
        _check_table(name, "nested_quant_map", parts["nested_quant_map"], dynamic_map(packed.device))
        _check_tensor(name, "nested_absmax", parts["nested_absmax"], -(-blocks // NESTED_BLOCK), torch.float32)
        offset = torch.tensor(state["nested_offset"], dtype=torch.float32, device=packed.device)
        second = Nested(parts["nested_absmax"], offset)
    return Quantized(packed.reshape(-1), parts["absmax"], second, shape, _DTYPE_NAMES[state["dtype"]])


def _state(name: str, data: Tensor) -> dict[str, Any]:
    if data.dtype != torch.uint8 or data.numel() > 4096:
        raise _refuse(name, "its quantisation state is no short text")
    try:
        state = json.loads(bytes(data.flatten().tolist()).decode("utf-8"))
    except ValueError:
        raise _refuse(name, "its quantisation state is not JSON") from None
    if not isinstance(state, dict):
        raise _refuse(name, "its quantisation state is no JSON object")
    nested = {"nested_blocksize": NESTED_BLOCK, "nested_dtype": "float32"} if "nested_blocksize" in state else {}
    for field, value in ({"quant_type": "nf4", "blocksize": BLOCK} | nested).items():
        if state.get(field) != value:
            raise _refuse(name, f"its {field} is {state.get(field)!r}, not {value!r}")
    if state.get("dtype") not in _DTYPE_NAMES:
        raise _refuse(name, f"its dtype is {state.get('dtype')!r}")
    shape = state.get("shape")
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(side) is int and 0 < side < 1 << 31 for side in shape):
        raise _refuse(name, f"its shape is {shape!r}")
    offset = state.get("nested_offset")
    if nested and not (isinstance(offset, float) and math.isfinite(offset)):
        raise _refuse(name, f"its nested_offset is {state.get('nested_offset')!r}")
    return state


def _check_tensor(name: str, part: str, tensor: Tensor, count: int, dtype: torch.dtype) -> None:
    if tensor.dtype != dtype or tensor.shape != (count,):
        raise _refuse(name, f"its {part} is {tensor.dtype} {tuple(tensor.shape)}, not {dtype} ({count},)")
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise _refuse(name, f"its {part} has NaN or infinity")


def _check_table(name: str, part: str, table: Tensor, own: Tensor) -> None:
    if table.dtype != own.dtype or not torch.equal(table, own):
        raise _refuse(name, f"its {part} is not the table of NF4")


def _refuse(name: str, what: str) -> BaseError:
    return BaseError(f"4-bit layer {name} cannot be read: {what}.", mend="Quantise the base again from its float weights.")
