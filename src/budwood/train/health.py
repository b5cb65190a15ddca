"""When a training has to stop: a loss that is not finite, or that has left the road for good."""

import math
from collections.abc import Sequence
from statistics import fmean

from budwood.errors import TrainingError
from budwood.train.curve import Point
from budwood.train.rows import TrainRow

WINDOW = 8
"""Steps that are averaged at the start and now."""
FACTOR, MARGIN = 1.5, 0.5
"""Diverged: the mean now is above FACTOR · the mean at the start + MARGIN nats."""
SHOWN = 4


def check_finite(
    value: float, what: str, step: int, rows: Sequence[TrainRow], curves: Sequence[Point], last: int | None
) -> None:
    """Stop at NaN and infinity.

    Args:
        value: loss of a pass, or norm of the gradients.
        what: its name, "Loss" or "The gradient norm".
        step: from 1.
        rows: of the pass or step.
        curves: so far.
        last: step of the last checkpoint.

    Raises:
        TrainingError: `value` is not finite. Names step, rows and the last good checkpoint.
    """
    if math.isfinite(value):
        return
    kind = "NaN" if math.isnan(value) else "infinite"
    losses = [point.loss for point in curves if point.loss is not None]
    before = f" (last finite loss {losses[-1]:.4g})" if losses else ""
    raise TrainingError(
        f"{what} became {kind} at step {step:,}{before}, with {_named(rows)}. {_saved(last)}",
        mend="Look at those rows first; then train again with a smaller [train] learning_rate.",
    )


def check_course(curves: Sequence[Point], rows: Sequence[TrainRow], last: int | None) -> None:
    """Stop when the loss is far above where it started: what follows is wasted.

    Raises:
        TrainingError: the mean of the last WINDOW steps says so.
    """
    losses = [point.loss for point in curves if point.loss is not None]
    if len(losses) < 2 * WINDOW:
        return
    start, now = fmean(losses[:WINDOW]), fmean(losses[-WINDOW:])
    if now <= FACTOR * start + MARGIN:
        return
    raise TrainingError(
        f"The loss diverged: {start:.4g} over the first {WINDOW} steps, {now:.4g} over the last, "
        f"at step {curves[-1].step:,}, with {_named(rows)}. {_saved(last)}",
        mend="Train again with a smaller [train] learning_rate, or a longer warmup.",
    )


def _named(rows: Sequence[TrainRow]) -> str:
    more = f" and {len(rows) - SHOWN:,} more" if len(rows) > SHOWN else ""
    return f"rows {', '.join(str(row) for row in rows[:SHOWN])}{more}" if len(rows) > 1 else f"row {rows[0]}"


def _saved(last: int | None) -> str:
    return "There is no checkpoint yet." if last is None else f"The checkpoint at step {last:,} is whole."
