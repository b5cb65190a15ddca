"""Which rows meet in which step: decided before the first step, from lengths, weights and the seed alone.

A step is a list of passes, a pass a list of rows that fit its token budget. Every row of weight 1 comes once in each epoch.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One optimiser update: rows (indices into the training rows) of each of its passes."""

    passes: tuple[tuple[int, ...], ...]
    epoch: int

    @property
    def rows(self) -> list[int]:
        return [row for rows in self.passes for row in rows]


def plan_steps(
    lengths: Sequence[int],
    weights: Sequence[float],
    names: Sequence[str],
    *,
    epochs: float,
    tokens_per_step: int,
    tokens_per_pass: int,
    seed: int,
) -> list[Step]:
    """Lay out the whole training.

    Args:
        lengths: tokens of each row.
        weights: how often an epoch takes each row; 0.5 means every other epoch.
        names: row ids; decide in which epochs a row of broken weight comes.
        epochs: may be broken: the last epoch then has that share of its steps, rounded up.
        tokens_per_step: passes are put together as long as their tokens stay within it; a single pass may be over it.
        tokens_per_pass: budget of one pass; never more than that of a step.
        seed: of order and of who meets whom.
    """
    steps: list[Step] = []
    budget = min(tokens_per_pass, tokens_per_step)
    for epoch in range(math.ceil(epochs)):
        taken = [row for row, name in enumerate(names) for _ in range(_times(weights[row], name, epoch, seed))]
        made = [Step(passes, epoch) for passes in _steps_of(taken, lengths, budget, tokens_per_step, seed, epoch)]
        share = min(1.0, epochs - epoch)
        steps += made[: math.ceil(share * len(made))]
    return steps


def _steps_of(
    taken: Sequence[int], lengths: Sequence[int], budget: int, tokens_per_step: int, seed: int, epoch: int
) -> list[tuple[tuple[int, ...], ...]]:
    from budwood.engine.packed import plan_passes

    sizes = [lengths[row] for row in taken]
    steps: list[tuple[tuple[int, ...], ...]] = []
    filling: list[tuple[int, ...]] = []
    used = 0
    for places in plan_passes(sizes, budget, seed=seed, epoch=epoch):
        tokens = sum(sizes[place] for place in places)
        if filling and used + tokens > tokens_per_step:
            steps.append(tuple(filling))
            filling, used = [], 0
        filling.append(tuple(taken[place] for place in places))
        used += tokens
    return [*steps, tuple(filling)] if filling else steps


def _times(weight: float, name: str, epoch: int, seed: int) -> int:
    """Take a row floor(w) or ceil(w) times, such that n epochs take it n · w times, give or take one."""
    if weight == 1.0:
        return 1
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    phase = int.from_bytes(digest[:6], "big") / 2**48
    return math.floor(weight * (epoch + 1) + phase) - math.floor(weight * epoch + phase)
