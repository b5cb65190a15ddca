"""An adapter made into what every server reads: plain LoRA, one rank, one alpha, as near as that rank allows.

What a layer's weight changes by (with DoRA: the rows' new lengths included) is cut to its largest singular values. Without
DoRA and with rank enough nothing is lost; what is, is said for each layer.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from budwood.engine.lora.adapter import Adapter, Pair, check_fit
from budwood.engine.lora.frozen import dense_weight
from budwood.engine.lora.targets import linear_shapes, linear_sites
from budwood.engine.lora.token_rows import token_tables
from budwood.errors import AdapterError


def plain_form(model: nn.Module, adapter: Adapter, rank: int) -> tuple[Adapter, dict[str, float]]:
    """Give the plain adapter, and by module path the share of its change (Frobenius norm) that was lost.

    Args:
        model: the base, with its weights; DoRA's change depends on them.
        adapter: fits it.
        rank: of every layer, at most a layer's smaller side.

    Raises:
        AdapterError: rows of tokens, which no plain pair can carry, or a layer smaller than the rank.
    """
    check_fit(adapter, linear_shapes(model), token_tables(model))
    if adapter.rows:
        raise AdapterError("Rows of tokens have no plain form.", mend="Export it as merged, or train without token_rows.")
    sites = linear_sites(model)
    small = [path for path, pair in adapter.pairs.items() if min(pair.a.shape[1], pair.b.shape[0]) < rank]
    if small:
        raise AdapterError(f"{small[0]} has a side smaller than rank {rank}.", mend="Give a smaller rank.")
    made = {path: _plain(sites[path], pair, rank) for path, pair in adapter.pairs.items()}
    config = replace(adapter.config, rank=rank, alpha=float(rank), rslora=False, rank_pattern={}, alpha_pattern={}, dora=False)
    pairs: Mapping[str, Pair] = {path: pair for path, (pair, _) in made.items()}
    return Adapter(config, pairs, adapter.fan_in_fan_out), {path: lost for path, (_, lost) in made.items()}


def _plain(module: nn.Module, pair: Pair, rank: int) -> tuple[Pair, float]:
    a, b, lost = (
        _cut(_change(module, pair), rank) if pair.magnitude is not None or pair.anchor is not None else _short(pair, rank)
    )
    return Pair(a.float(), b.float(), 1.0), lost


def _change(module: nn.Module, pair: Pair) -> Tensor:
    """What the weight (d_out, d_in) changes by, in float64."""
    delta = pair.b.double() @ pair.a.double()
    if pair.anchor is not None:
        delta = delta - pair.anchor[1].double() @ pair.anchor[0].double()
    delta = delta * pair.scaling
    if pair.magnitude is None:
        return delta
    weight = dense_weight(module).double()
    whole = weight + delta
    lengths = torch.linalg.vector_norm(whole, dim=1)
    change: Tensor = whole * (pair.magnitude.double() / lengths)[:, None] - weight
    return change


def _cut(change: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    u, values, v = torch.linalg.svd(change, full_matrices=False)
    roots = values[:rank].sqrt()
    return roots[:, None] * v[:rank], u[:, :rank] * roots, _lost(values, rank)


def _short(pair: Pair, rank: int) -> tuple[Tensor, Tensor, float]:
    """The same of a product of tall factors: as it is where the rank is enough, else only the small middle is decomposed."""
    a, b = pair.a.double(), pair.b.double() * pair.scaling
    more = rank - a.shape[0]
    if more >= 0:
        return torch.nn.functional.pad(a, (0, 0, 0, more)), torch.nn.functional.pad(b, (0, more)), 0.0
    left, middle_b = torch.linalg.qr(b)
    right, middle_a = torch.linalg.qr(a.T)
    inner_a, inner_b, lost = _cut(middle_b @ middle_a.T, rank)
    return inner_a @ right.T, left @ inner_b, lost


def _lost(values: Tensor, rank: int) -> float:
    whole = float(values.square().sum().sqrt())
    return float(values[rank:].square().sum().sqrt()) / whole if whole else 0.0
