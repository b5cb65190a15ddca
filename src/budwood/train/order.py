"""Which rows meet in which step: decided before the first step, from lengths, weights and the seed alone.

A step is a list of passes, a pass a list of rows that fit its token budget. Every row of weight 1 comes once in each epoch. The
plan holds four bytes a row and epoch; steps are made from it as they are asked for.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Step:
    """One optimiser update: rows (indices into the training rows) of each of its passes."""

    passes: tuple[tuple[int, ...], ...]
    epoch: int

    @property
    def rows(self) -> list[int]:
        return [row for rows in self.passes for row in rows]


@dataclass(frozen=True)
class StepPlan(Sequence[Step]):
    """All steps of a training.

    Args:
        rows: of all passes, one pass behind the other.
        pass_ends: where each pass ends in `rows`.
        step_ends: where each step ends in `pass_ends`.
        epochs: of each step.
        tokens: of each step.
    """

    rows: "NDArray[np.int32]"
    pass_ends: "NDArray[np.int64]"
    step_ends: "NDArray[np.int64]"
    epochs: "NDArray[np.int32]"
    tokens: "NDArray[np.int64]"

    def __len__(self) -> int:
        return len(self.step_ends)

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> list[Step]: ...
    def __getitem__(self, index: int | slice) -> Step | list[Step]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        first = int(self.step_ends[at - 1]) if at else 0
        passes = []
        for place in range(first, int(self.step_ends[at])):
            start = int(self.pass_ends[place - 1]) if place else 0
            passes.append(tuple(self.rows[start : int(self.pass_ends[place])].tolist()))
        return Step(tuple(passes), int(self.epochs[at]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # holds arrays


def plan_steps(
    lengths: "Sequence[int] | NDArray[Any]",
    weights: "Sequence[float] | NDArray[Any]",
    names: Sequence[str],
    *,
    epochs: float,
    tokens_per_step: int,
    tokens_per_pass: int,
    seed: int,
) -> StepPlan:
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
    import numpy as np

    from budwood.engine.packed import fill, order_passes

    sizes = np.asarray(lengths, dtype=np.int64)
    often = np.asarray(weights, dtype=np.float64)
    budget = min(tokens_per_pass, tokens_per_step)
    parts: list[StepPlan] = []
    for epoch in range(math.ceil(epochs)):
        taken = np.repeat(np.arange(len(sizes), dtype=np.int32), _times(often, names, epoch, seed))
        places, pass_ends = order_passes(sizes[taken], budget, seed=seed, epoch=epoch)
        rows = taken[places]
        tokens = np.diff(np.cumsum(sizes[rows])[pass_ends - 1], prepend=0)
        step_ends = fill(tokens, tokens_per_step)
        kept = math.ceil(min(1.0, epochs - epoch) * len(step_ends))
        of_steps = np.diff(np.cumsum(tokens)[step_ends - 1], prepend=0)
        parts.append(StepPlan(rows, pass_ends, step_ends[:kept], np.full(kept, epoch, dtype=np.int32), of_steps[:kept]))
    return _joined(parts)


def _joined(parts: Sequence[StepPlan]) -> StepPlan:
    """One plan behind the other. What a broken epoch leaves out stays in `rows`, and no step reaches it."""
    import numpy as np

    rows = pass_count = 0
    pass_ends, step_ends = [], []
    for part in parts:
        pass_ends.append(part.pass_ends + rows)
        step_ends.append(part.step_ends + pass_count)
        rows += len(part.rows)
        pass_count += len(part.pass_ends)
    return StepPlan(
        np.concatenate([part.rows for part in parts]),
        np.concatenate(pass_ends),
        np.concatenate(step_ends),
        np.concatenate([part.epochs for part in parts]),
        np.concatenate([part.tokens for part in parts]),
    )


def _times(weights: "NDArray[np.float64]", names: Sequence[str], epoch: int, seed: int) -> "NDArray[np.int64]":
    """Take a row floor(w) or ceil(w) times, such that n epochs take it n · w times, give or take one."""
    import numpy as np

    times = np.ones(len(weights), dtype=np.int64)
    for place in np.flatnonzero(weights != 1.0).tolist():
        weight = float(weights[place])
        digest = hashlib.sha256(f"{seed}:{names[place]}".encode()).digest()
        phase = int.from_bytes(digest[:6], "big") / 2**48
        times[place] = math.floor(weight * (epoch + 1) + phase) - math.floor(weight * epoch + phase)
    return times
