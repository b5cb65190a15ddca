"""Composition: several adapters of one base made into one new adapter.

`linear` and `concatenate` work on the factors, the others on the deltas (d_out, d_in), which are then factored again:

* linear: A and B are averaged apart from each other, as PEFT's "linear" does. Cheap, one rank for all, and *not* the sum of the
  deltas: the cross terms B_i A_j are in it.
* concatenate: the weighted sum of the deltas, exactly; the ranks add up.
* svd: the same sum, cut to the best approximation of a rank.
* ties: each delta keeps its largest entries, signs are elected, and only those that agree are averaged (arXiv 2306.01708).
* dare: entries are dropped at random and the rest scaled up, then summed (arXiv 2311.03099).

Token rows are taken over as they were trained: weights and methods do not touch them, since what a row would be weighed against
is in the base alone. Adapters that train one token to different rows are refused.

`Composed.lost` says what the cut to a rank cost. Room: tensors only; whoever stores the result names its parents.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from budwood.engine.lora.adapter import Adapter, Pair
from budwood.engine.lora.config import LoraConfig
from budwood.engine.lora.token_rows import TokenRows
from budwood.errors import AdapterError

Method = Literal["linear", "concatenate", "svd", "ties", "dare"]


@dataclass(frozen=True)
class Composed:
    """A new adapter, and by module the share of the wanted delta's Frobenius norm that its rank could not hold."""

    adapter: Adapter
    lost: Mapping[str, float]


@dataclass(frozen=True)
class Settings:
    """How to compose.

    Args:
        method: see the module.
        weights: one an adapter; may be negative.
        rank: of the result, for svd, ties and dare; 0: the largest rank among the adapters.
        density: share of entries kept, for ties and dare.
        seed: of the random choice in dare.
    """

    method: Method
    weights: tuple[float, ...]
    rank: int = 0
    density: float = 0.5
    seed: int = 0


def compose(adapters: Sequence[Adapter], settings: Settings) -> Composed:
    """Make one adapter of several. A module that some of them leave alone counts as unchanged there.

    Raises:
        AdapterError: no adapters, another number of weights, a weight or density out of range, adapters of other bases
            (shapes differ), ranks that `linear` cannot average, or token rows that contradict each other.
    """
    _check(adapters, settings)
    rows = _rows(adapters)
    paths = sorted({path for adapter in adapters for path in adapter.pairs})
    rank = _rank(adapters, settings)
    lost: dict[str, float] = {}
    pairs: dict[str, Pair] = {}
    for path in paths:
        found = [(w, a.pairs[path]) for w, a in zip(settings.weights, adapters, strict=True) if path in a.pairs]
        a, b, lost[path] = _compose(path, found, settings, rank)
        pairs[path] = Pair(_padded(a, rank, 0).float().contiguous(), _padded(b, rank, 1).float().contiguous(), 1.0)
    targets = tuple(sorted({name for adapter in adapters for name in adapter.config.targets}))
    # alpha = rank, so that the scale is 1 and every reader agrees on it: weights and scales are in the factors.
    config = LoraConfig(rank=rank, alpha=float(rank), targets=targets)
    return Composed(replace(adapters[0], config=config, pairs=pairs, rows=rows), lost)


Factors = tuple[Tensor, Tensor, float]
"""A (r, d_in), B (d_out, r) in float64, and the share that was lost."""


def _compose(path: str, found: list[tuple[float, Pair]], settings: Settings, rank: int) -> Factors:
    if settings.method == "linear":
        return _linear(found)
    if settings.method in ("concatenate", "svd"):
        a = torch.cat([pair.a.double() for _, pair in found])
        b = torch.cat([pair.b.double() * (weight * pair.scaling) for weight, pair in found], dim=1)
        return (a, b, 0.0) if settings.method == "concatenate" else _cut(a, b, rank)
    deltas = [pair.delta().double() for _, pair in found]
    weights = torch.tensor([weight for weight, _ in found], dtype=torch.float64)
    ties = settings.method == "ties"
    wanted = _ties(deltas, weights, settings.density) if ties else _dare(deltas, weights, settings, path)
    return _cut(torch.eye(wanted.shape[1], dtype=torch.float64), wanted, rank)


def _linear(found: list[tuple[float, Pair]]) -> Factors:
    # The square root goes to both sides, the sign to one, so that a single adapter comes out as itself.
    roots = [(math.copysign(abs(w * pair.scaling) ** 0.5, w), abs(w * pair.scaling) ** 0.5) for w, pair in found]
    a = torch.stack([pair.a.double() * root for (root, _), (_, pair) in zip(roots, found, strict=True)]).sum(0)
    b = torch.stack([pair.b.double() * root for (_, root), (_, pair) in zip(roots, found, strict=True)]).sum(0)
    return a, b, 0.0


def _cut(a: Tensor, b: Tensor, rank: int) -> Factors:
    """Best approximation of B A of a rank; of tall factors only the small middle is decomposed."""
    left, middle_b = torch.linalg.qr(b)
    right, middle_a = torch.linalg.qr(a.T)
    u, values, v = torch.linalg.svd(middle_b @ middle_a.T, full_matrices=False)
    kept = values[:rank]
    whole = float(values.square().sum().sqrt())
    lost = float(values[rank:].square().sum().sqrt()) / whole if whole else 0.0
    return (kept.sqrt()[:, None] * (v[:rank] @ right.T)), (left @ u[:, :rank]) * kept.sqrt(), lost


def _ties(deltas: list[Tensor], weights: Tensor, density: float) -> Tensor:
    kept = torch.stack([_largest(delta, density) for delta in deltas])
    elected = torch.where(kept.sum(0) >= 0, 1.0, -1.0)
    agree = kept.sign() == elected
    return (kept * weights[:, None, None] * agree).sum(0) / agree.sum(0).clamp(min=1)


def _largest(delta: Tensor, density: float) -> Tensor:
    places = delta.abs().flatten().topk(int(density * delta.numel())).indices
    return torch.zeros_like(delta).flatten().index_copy(0, places, delta.flatten()[places]).view_as(delta)


def _dare(deltas: list[Tensor], weights: Tensor, settings: Settings, path: str) -> Tensor:
    total = torch.zeros_like(deltas[0])
    for index, delta in enumerate(deltas):
        # Drawn by name: which modules there are besides changes nothing.
        digest = hashlib.sha256(f"{settings.seed}:{index}:{path}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        kept = torch.empty_like(delta).bernoulli_(settings.density, generator=generator)
        total += weights[index] * delta * kept / settings.density
    return total


def _rows(adapters: Sequence[Adapter]) -> dict[str, TokenRows]:
    """All token rows of all adapters."""
    tables: dict[str, dict[int, Tensor]] = {}
    unlike: dict[str, None] = {}
    for adapter in adapters:
        for path, rows in adapter.rows.items():
            held = tables.setdefault(path, {})
            for token, values in zip(rows.ids, rows.values, strict=True):
                if not torch.equal(held.setdefault(token, values), values):
                    unlike[f"{token} in {path}"] = None
    if unlike:
        shown = ", ".join([*unlike][:5]) + (f" and {len(unlike) - 5} more" if len(unlike) > 5 else "")
        raise AdapterError(
            f"The adapters have different rows for the same tokens: {shown}.",
            where="a composition of adapters",
            mend="Compose adapters whose token rows are the same or for different tokens, or merge one into the base and train "
            "the other on that.",
        )
    return {path: TokenRows.of(list(held), torch.stack(list(held.values()))) for path, held in tables.items()}


def _padded(factor: Tensor, rank: int, dimension: int) -> Tensor:
    """Fill up with zeros: one rank for all modules is what every server reads."""
    missing = rank - factor.shape[dimension]
    if missing <= 0:
        return factor
    shape = (missing, factor.shape[1]) if dimension == 0 else (factor.shape[0], missing)
    return torch.cat((factor, torch.zeros(shape, dtype=factor.dtype)), dim=dimension)


def _rank(adapters: Sequence[Adapter], settings: Settings) -> int:
    largest = [max(pair.a.shape[0] for pair in adapter.pairs.values()) for adapter in adapters]
    if settings.method == "concatenate":
        return sum(largest)
    return max(largest) if settings.method == "linear" or not settings.rank else settings.rank


def _check(adapters: Sequence[Adapter], settings: Settings) -> None:
    where = "a composition of adapters"
    if not adapters or any(not adapter.pairs for adapter in adapters):
        raise AdapterError("There is nothing to compose: an adapter is missing or has no pairs.", where=where)
    if any(pair.magnitude is not None or pair.anchor is not None for adapter in adapters for pair in adapter.pairs.values()):
        raise AdapterError(
            "An adapter has magnitudes (DoRA) or frozen copies: its delta depends on the base's weights.",
            where=where,
            mend="Compose plain LoRA adapters, or merge this one into a base.",
        )
    if len(settings.weights) != len(adapters):
        raise AdapterError(
            f"{len(adapters)} adapters have {len(settings.weights)} weights.", where=where, mend="Give one weight an adapter."
        )
    if not all(math.isfinite(weight) and weight != 0 for weight in settings.weights):
        raise AdapterError(
            f"A weight of {settings.weights} is zero or not finite.", where=where, mend="Leave that adapter out."
        )
    if not 0 < settings.density <= 1:
        raise AdapterError(f"density is {settings.density}, outside 0 to 1.", where=where, mend="0.2 to 0.5 is usual for TIES.")
    if settings.rank < 0:
        raise AdapterError(f"rank is {settings.rank}.", where=where, mend="Use 0 for the largest rank among the adapters.")
    seen: dict[str, tuple[int, int, int]] = {}
    for adapter in adapters:
        for path, pair in adapter.pairs.items():
            shape = (pair.b.shape[0], pair.a.shape[1], pair.a.shape[0])
            first = seen.setdefault(path, shape)
            if first[:2] != shape[:2]:
                raise AdapterError(
                    f"{path} is a layer of {first[:2]} in one adapter and of {shape[:2]} in another.",
                    where=where,
                    mend="Compose adapters of one base.",
                )
            if settings.method == "linear" and first[2] != shape[2]:
                raise AdapterError(
                    f"{path} has rank {first[2]} in one adapter and {shape[2]} in another, which linear cannot average.",
                    where=where,
                    mend="Use concatenate or svd.",
                )
