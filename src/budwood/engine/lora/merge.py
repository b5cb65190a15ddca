"""Merging: the delta added to the base's weights, so that nothing has to be attached any more.

The sum is made in float64 and rounded once to the weight's own dtype, so a merged layer differs from the attached one by the
rounding of one addition. Over an NF4 base the merge is exact against the *expanded* 4-bit weights, which are not the weights
that the base was quantised from: evaluate what you serve.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from budwood.engine.lora.adapter import Adapter, Pair, check_fit
from budwood.engine.lora.frozen import Attached, is_transposed, linear_shape
from budwood.engine.lora.targets import linear_sites
from budwood.engine.lora.token_rows import TokenRows, token_tables
from budwood.engine.quant.linear import QuantizedLinear
from budwood.errors import AdapterError

PIECE = 1 << 18
"""Weights that are worked on at once, in whole rows: 2 MiB in float64, which stays in a core's cache."""


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
    """Add a pair's delta to a weight (d_out, d_in), or (d_in, d_out) if `transposed`, with one rounding.

    Beside the result there are never more than a few times `PIECE` numbers.
    """
    result = torch.empty_like(weight, memory_format=torch.contiguous_format, requires_grad=False)
    before, after = (weight.T, result.T) if transposed else (weight, result)
    exact = _in_float64(pair, weight.device)
    step = max(1, PIECE // before.shape[1])
    for start in range(0, before.shape[0], step):
        rows = slice(start, start + step)
        after[rows] = _merged_rows(before[rows].detach().double(), exact, rows)
    return result


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


def _in_float64(pair: Pair, device: torch.device) -> Pair:
    a, b = pair.a.double().to(device), pair.b.double().to(device)
    anchor = None if pair.anchor is None else (pair.anchor[0].double().to(device), pair.anchor[1].double().to(device))
    magnitude = None if pair.magnitude is None else pair.magnitude.double().to(device)
    return Pair(a, b, pair.scaling, anchor, magnitude)


def _merged_rows(stored: Tensor, pair: Pair, rows: slice) -> Tensor:
    delta = pair.b[rows] @ pair.a
    if pair.anchor is not None:
        delta = delta - pair.anchor[1][rows] @ pair.anchor[0]
    whole = stored + delta * pair.scaling
    if pair.magnitude is None:
        return whole
    lengths: Tensor = torch.linalg.vector_norm(whole, dim=1)
    return whole * (pair.magnitude[rows] / lengths)[:, None]


def _plain_names(model: nn.Module) -> dict[str, str]:
    """Path of each module inside an attached one → path of the attached one."""
    return {f"{path}.base": path for path, module in model.named_modules() if isinstance(module, Attached)}


def _expand(state: dict[str, Tensor], path: str, module: QuantizedLinear) -> None:
    for part, _ in module.named_buffers():
        state.pop(f"{path}.{part}", None)
    state[f"{path}.weight"] = module.dequantized()
