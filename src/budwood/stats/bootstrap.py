"""Interval of a mean by resampling groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from budwood.errors import EvaluationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK = 1 << 22
"""Numbers drawn at once: bounds memory at about 32 MB whatever the number of cases."""


@dataclass(frozen=True)
class Interval:
    """A mean with its two one-sided bounds, over `n` values in `groups` groups."""

    mean: float
    low: float
    high: float
    n: int
    groups: int


def paired_bootstrap(
    deltas: "Sequence[float] | NDArray[np.float64]",
    groups: Sequence[str] | None = None,
    *,
    resamples: int,
    seed: int,
    alpha: float,
) -> Interval:
    """Bound the mean of paired differences.

    Whole groups are drawn with replacement and the mean is taken over the cases drawn, so cases that rise and fall together
    do not count as independent. Bounds are percentiles, each one-sided at `alpha`. All values equal give a width of zero: the
    caller adds what was not seen (`upper_rate`).

    Args:
        deltas: one difference for each case; finite.
        groups: group of each case; None: every case is its own.
        resamples: draws.
        seed: of the draws; the same input gives the same interval on every machine.
        alpha: error of each bound, between 0 and 0.5.

    Raises:
        EvaluationError: no values, values that are not finite, or another number of groups.

    Source: Efron and Tibshirani 1993, chapter 13; Miller, arXiv 2411.00640 for groups. Held to enumeration of all resamples by
    tests/stats/test_bootstrap.py.
    """
    import numpy as np

    values = np.asarray(deltas, dtype=np.float64)
    _check(values.shape, bool(np.isfinite(values).all()), groups, alpha, resamples)
    if groups is None:
        sums, sizes = values, np.ones_like(values)
    else:
        _, index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        sums = np.bincount(index, weights=values).astype(np.float64)
        sizes = np.bincount(index).astype(np.float64)
    count = len(sums)
    generator = np.random.Generator(np.random.PCG64(seed))
    means = np.empty(resamples)
    step = max(1, BLOCK // count)
    for start in range(0, resamples, step):
        drawn = generator.integers(0, count, size=(min(step, resamples - start), count))
        means[start : start + len(drawn)] = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.quantile(means, [alpha, 1 - alpha])
    return Interval(float(values.mean()), float(low), float(high), len(values), count)


def _check(shape: tuple[int, ...], finite: bool, groups: Sequence[str] | None, alpha: float, resamples: int) -> None:
    if len(shape) != 1 or not shape[0]:
        raise EvaluationError("There is nothing to compare: no cases.", mend="Give a suite with at least one case.")
    if not finite:
        raise EvaluationError("A score is NaN or infinite, so no mean can be bounded.", mend="Leave such cases out, counted.")
    if groups is not None and len(groups) != shape[0]:
        raise EvaluationError(f"{shape[0]} values come with {len(groups)} groups.", mend="Give one group for each value.")
    if not 0 < alpha < 0.5 or resamples < 1:
        raise EvaluationError(f"alpha {alpha} with {resamples} resamples is no interval.", mend="Use 0 < alpha < 0.5.")
