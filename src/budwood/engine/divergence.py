"""How far apart two models are, on given texts: what a merge, a form of weights or a precision costs."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

Logits = Callable[[Sequence[int]], Tensor]
"""Token ids of a row → (T, V) logits."""


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


def divergence(wanted: Logits, found: Logits, rows: Sequence[tuple[Sequence[int], int]]) -> Divergence:
    """Compare two models at the ends of rows.

    Args:
        wanted: the one to be as.
        found: the other.
        rows: token ids, and how many of the last positions count.
    """
    kls: list[Tensor] = []
    logits = choices = 0.0
    for ids, count in rows:
        one, other = (model(ids)[-count:].double() for model in (wanted, found))
        first, second = one.log_softmax(-1), other.log_softmax(-1)
        kls.append((first.exp() * (first - second)).sum(-1).clamp(min=0))
        centred = (one - one.mean(-1, keepdim=True)) - (other - other.mean(-1, keepdim=True))
        logits = max(logits, float(centred.abs().max()))
        choices += float((one.argmax(-1) != other.argmax(-1)).sum())
    every = torch.cat(kls)
    return Divergence(len(every), float(every.mean()), float(every.max()), logits, choices / len(every))
