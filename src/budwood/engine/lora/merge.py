"""Merging: the delta added to the base's weights, so that nothing has to be attached any more.

The sum is made in float64 and rounded once to the weight's own dtype, so a merged layer differs from the attached one by the
rounding of one addition. Over an NF4 base the merge is exact against the *expanded* 4-bit weights, which are not the weights
that the base was quantised from: evaluate what you serve.
"""

import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from budwood.engine.lora.adapter import Adapter, Pair, check_fit
from budwood.engine.lora.frozen import Attached, is_transposed, linear_shape
from budwood.engine.lora.targets import linear_sites
from budwood.engine.lora.token_rows import TokenRows, token_tables
from budwood.engine.quant.linear import QuantizedLinear
from budwood.engine.quant.load import Form, quantize_linears
from budwood.errors import AdapterError

_TOKENIZER_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "merges.txt",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)


def merged_weights(model: nn.Module, adapter: Adapter) -> dict[str, Tensor]:
    """Give the model's state, name → tensor, under the names of a plain base, with the adapter merged in.

    Tensors without a delta are the model's own, not copies. Quantised layers come out as weights of the dtype they were
    quantised from.

    Args:
        model: the base, with or without a bank attached; what the bank holds is not looked at.
        adapter: fits this base.

    Raises:
        AdapterError: a pair or token rows are for nothing of this base, or for other sizes. Nothing was computed.
    """
    sites, tables = linear_sites(model), token_tables(model)
    check_fit(adapter, {path: linear_shape(module) for path, module in sites.items()}, tables)
    plain = _plain_names(model)
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        path, _, last = name.rpartition(".")
        state[f"{plain[path]}.{last}" if path in plain else name] = tensor.detach()
    for path, module in model.named_modules():
        if isinstance(module, QuantizedLinear):
            _expand(state, plain.get(path, path), module)
    for path, pair in adapter.pairs.items():
        name = f"{path}.weight"
        state[name] = merged(state[name], pair, transposed=is_transposed(sites[path]))
    for path, rows in adapter.rows.items():
        whole = with_rows(state[f"{path}.weight"], rows)
        for name in tables.sharing(path) if tables else ():
            state[f"{name}.weight"] = whole
    return state


def merged(weight: Tensor, pair: Pair, *, transposed: bool = False) -> Tensor:
    """Add a pair's delta to a weight (d_out, d_in), or (d_in, d_out) if `transposed`, with one rounding."""
    delta = ((pair.b.double() @ pair.a.double()) * pair.scaling).to(weight.device)
    stored = weight.detach().double()
    whole = (stored.T if transposed else stored) + delta
    if pair.magnitude is not None:
        lengths = torch.linalg.vector_norm(whole, dim=1)
        whole = whole * (pair.magnitude.double().to(weight.device) / lengths)[:, None]
    return (whole.T if transposed else whole).to(weight.dtype).contiguous()


def with_rows(weight: Tensor, rows: TokenRows) -> Tensor:
    """Give a table (V, d) with an adapter's rows in the place of its own, rounded to its dtype."""
    return weight.detach().index_copy(0, torch.tensor(rows.ids, device=weight.device), rows.values.to(weight))


def unmerged(weight: Tensor, pair: Pair, *, transposed: bool = False) -> Tensor:
    """Take a pair's delta out of a merged weight again, with one rounding.

    The base's own bytes come back only where neither rounding lost anything: each element may be off by one unit in the last
    place of the merged weight and one of its own. Whoever needs the base exactly keeps the base.

    Raises:
        AdapterError: the pair has magnitudes: the lengths that the base's rows had are not in the merged weight.
    """
    if pair.magnitude is not None:
        raise AdapterError(
            "A merge with magnitudes (DoRA) cannot be undone: the rows' own lengths are gone.", mend="Load the base again."
        )
    return merged(weight, replace(pair, scaling=-pair.scaling), transposed=transposed)


def merged_model_files(base_folder: Path, adapter: Adapter, out: Path, *, onto: Form | None = None) -> None:
    """Write a base with an adapter merged in as a folder that transformers loads: weights, configuration, tokenizer.

    The weights keep the dtype that they have in `base_folder`. Tokenizer files are copied byte by byte. Cut short, nothing is
    left under `out`.

    Args:
        base_folder: a local base with safetensors files.
        adapter: fits this base.
        out: a folder that does not exist yet, or is empty.
        onto: merge onto what these weights become in 4 or 8 bits, expanded again; None: onto the weights as they are.

    Raises:
        AdapterError: `out` holds something, the base is quantised or not whole, or the adapter does not fit it.
    """
    from budwood.engine.base import without_bars

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise AdapterError(f"{out} holds something already.", mend="Name a new folder for the merged model.")
    model = _load_plain(base_folder)
    weights = merged_weights(_expanded(base_folder, onto), adapter) if onto else merged_weights(model, adapter)
    model.load_state_dict({name: tensor for name, tensor in weights.items() if name.endswith(".weight")}, strict=False)
    scratch = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        scratch.mkdir(parents=True)
        with without_bars():
            model.save_pretrained(scratch)  # type: ignore[operator]  # transformers' models have it
        for name in _TOKENIZER_FILES:
            if (base_folder / name).is_file():
                shutil.copyfile(base_folder / name, scratch / name)
        if out.is_dir():
            out.rmdir()
        os.replace(scratch, out)
    except (OSError, SafetensorError) as error:
        raise AdapterError(
            f"The merged model could not be written: {error}.", where=str(out), mend="Free some space, then merge again."
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _expanded(folder: Path, form: Form) -> nn.Module:
    model = _load_plain(folder)
    quantize_linears(model, form)
    return model


def _load_plain(folder: Path) -> nn.Module:
    from budwood.engine.base import without_bars

    with without_bars():
        loaded = AutoModelForCausalLM.from_pretrained(
            folder, dtype="auto", local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    model, info = cast(tuple[nn.Module, dict[str, Iterable[str]]], loaded)
    if getattr(model.config, "quantization_config", None) is not None:
        raise AdapterError(f"The base in {folder} is quantised.", mend="Merge into the base that is not.")
    missing = sorted(info["missing_keys"])
    if missing:
        raise AdapterError(f"The base in {folder} lacks {', '.join(missing[:5])}.", mend="Fetch the base again.")
    return model


def _plain_names(model: nn.Module) -> dict[str, str]:
    """Path of each module inside an attached one → path of the attached one."""
    return {f"{path}.base": path for path, module in model.named_modules() if isinstance(module, Attached)}


def _expand(state: dict[str, Tensor], path: str, module: QuantizedLinear) -> None:
    for part, _ in module.named_buffers():
        state.pop(f"{path}.{part}", None)
    state[f"{path}.weight"] = module.dequantized()
