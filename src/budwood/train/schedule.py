"""The learning rate of each step, and the steps after which is validated."""

import math
from typing import Literal


def learning_rate(
    step: int, steps: int, *, peak: float, warmup: float, schedule: Literal["constant", "linear", "cosine"]
) -> float:
    """Give the learning rate of a step.

    It rises in equal parts over the first `ceil(warmup · steps)` steps, the last of which has the peak; then it stays, falls
    on a straight line, or falls on half a cosine, towards 0 just after the last step: every step changes something.

    Args:
        step: from 0 to steps - 1.
        steps: of the whole training.
        peak: highest learning rate.
        warmup: share of steps with a rising rate.
        schedule: what follows.
    """
    rising = math.ceil(warmup * steps)
    if step < rising:
        return peak * (step + 1) / rising
    done = (step - rising) / max(1, steps - rising)
    match schedule:
        case "constant":
            return peak
        case "linear":
            return peak * (1 - done)
        case "cosine":
            return peak * 0.5 * (1 + math.cos(math.pi * done))


def validation_steps(steps: int, count: int) -> frozenset[int]:
    """Spread `count` validations over the steps (numbered from 1), the last one included."""
    return frozenset(max(1, round(number * steps / count)) for number in range(1, count + 1))
