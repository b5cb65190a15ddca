"""PiSSA's start: the largest singular directions of each weight, trained against a frozen copy of themselves.

The layer is y = W x + s (B A - B0 A0) x with A, B starting at A0, B0, which hold the weight's r largest directions: nothing is
changed at first, as with a plain start, and what is trained is the weight's principal part. The copy stands beside the weight,
so the base stays as it is, quantised or not, and the result is a plain adapter of twice the rank: [B, -B0] [A; A0].

Source: arXiv:2404.02948; held to peft's `init_lora_weights="pissa"` by tests/engine/lora/test_pissa.py.
"""

import hashlib
import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from budwood.engine.lora.adapter import Adapter, Pair
from budwood.engine.lora.config import LoraConfig
from budwood.engine.lora.frozen import dense_weight
from budwood.engine.lora.targets import linear_sites

ROUNDS = 16
"""Of the subspace iteration: the directions found differ from the exact ones by less than what float32 keeps of the product."""
SPARE = 8
"""Directions that are followed beside the wanted ones, and dropped."""


def principal_start(model: nn.Module, adapter: Adapter, *, seed: int) -> Adapter:
    """Give an adapter's pairs the principal directions of their layers, and a frozen copy of them.

    Args:
        model: the base, without a bank.
        adapter: fresh, for this base.
        seed: of the iteration's start; each layer draws by its path.
    """
    sites = linear_sites(model)
    pairs: dict[str, Pair] = {}
    for path, pair in adapter.pairs.items():
        weight = dense_weight(sites[path])
        left, sizes, right = _principal(weight, pair.a.shape[0], f"{seed}:{path}")
        root = (sizes / pair.scaling).sqrt()
        a, b = root[:, None] * right.T, left * root
        pairs[path] = Pair(a, b, pair.scaling, anchor=(a.clone(), b.clone()))
    return replace(adapter, pairs=pairs)


def plain(adapter: Adapter) -> Adapter:
    """Turn an adapter with frozen copies into one of twice the rank without; any other adapter is given back as it is."""
    if not any(pair.anchor is not None for pair in adapter.pairs.values()):
        return adapter
    pairs = {path: _joined(pair) for path, pair in adapter.pairs.items()}
    return replace(adapter, config=_doubled(adapter.config), pairs=pairs)


def _joined(pair: Pair) -> Pair:
    assert pair.anchor is not None
    a0, b0 = pair.anchor
    return Pair(torch.cat([pair.a, a0]), torch.cat([pair.b, -b0], dim=1), pair.scaling)


def _doubled(config: LoraConfig) -> LoraConfig:
    """Twice the rank at the same scale."""
    factor = math.sqrt(2) if config.rslora else 2.0
    return replace(
        config,
        rank=2 * config.rank,
        alpha=factor * config.alpha,
        rank_pattern={path: 2 * rank for path, rank in config.rank_pattern.items()},
        alpha_pattern={path: factor * alpha for path, alpha in config.alpha_pattern.items()},
    )


def _principal(weight: Tensor, rank: int, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Left (d_out, r), sizes (r,), right (d_in, r): the largest, by subspace iteration from a draw of the layer's own."""
    follow = min(rank + SPARE, *weight.shape)
    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 1)
    space = torch.randn(weight.shape[1], follow, generator=generator).to(weight.device)
    for _ in range(ROUNDS):
        space = torch.linalg.qr(weight.T @ torch.linalg.qr(weight @ space).Q).Q
    left, sizes, right = torch.linalg.svd(weight @ space, full_matrices=False)
    return left[:, :rank], sizes[:rank], (space @ right.T)[:, :rank]
