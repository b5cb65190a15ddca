"""How far apart two models are, on given texts: what a merge, a form of weights or a precision costs.

One of them may speak first and leave memory: `recorded` keeps what it said in files.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

Logits = Callable[[Sequence[int], int], Tensor]
"""Token ids of a row, and how many of its last positions are asked for → (count, V) logits."""
Rows = Sequence[tuple[Sequence[int], int]]
"""Token ids, and how many of the last positions count."""

PIECE = 8
"""Positions that are compared at once: some of these tables are in float64, and a vocabulary may have 200,000 tokens."""


@dataclass(frozen=True)
class Divergence:
    """Of one model from another.

    Args:
        tokens: positions that were compared.
        mean_kl: mean over them of KL(wanted || found), nats.
        most_kl: the largest.
        most_logit: largest difference of a logit, each row's logits shifted to mean 0.
        other_choice: share of positions whose most likely token is another one.
    """

    tokens: int
    mean_kl: float
    most_kl: float
    most_logit: float
    other_choice: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def divergence(wanted: Logits, found: Logits, rows: Rows) -> Divergence:
    """Compare two models at the ends of rows.

    Args:
        wanted: the one to be as.
        found: the other.
        rows: what they are given.
    """
    kls: list[Tensor] = []
    logits = choices = 0.0
    for ids, count in rows:
        both = (torch.split(wanted(ids, count), PIECE), torch.split(found(ids, count), PIECE))
        for one, other in zip(*both, strict=True):
            first, second = one.double(), other.double()
            kls.append(_kl(first, second))
            centred = (first - first.mean(-1, keepdim=True)) - (second - second.mean(-1, keepdim=True))
            logits = max(logits, float(centred.abs().max()))
            choices += float((first.argmax(-1) != second.argmax(-1)).sum())
    every = torch.cat(kls)
    return Divergence(len(every), float(every.mean()), float(every.max()), logits, choices / len(every))


def recorded(model: Logits, rows: Rows, folder: Path) -> Logits:
    """Let a model speak now and keep it in files of `folder`, so that it need not be in memory when it is compared.

    Cost: 4 bytes × positions × vocabulary on disk.

    Raises:
        OSError: the disk refuses.
    """
    places = {(tuple(ids), count): folder / f"{place}.safetensors" for place, (ids, count) in enumerate(rows)}
    for (ids, count), place in places.items():
        save_file({"logits": model(ids, count).contiguous()}, place)

    def of(ids: Sequence[int], count: int) -> Tensor:
        with safe_open(places[tuple(ids), count], framework="pt") as file:
            said: Tensor = file.get_tensor("logits")
        return said

    return of


def _kl(first: Tensor, second: Tensor) -> Tensor:
    """KL of each position, nats."""
    first, second = first.log_softmax(-1), second.log_softmax(-1)
    return (first.exp() * (first - second)).sum(-1).clamp(min=0)
