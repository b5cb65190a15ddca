"""Interval of a mean by resampling groups."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from budwood.errors import EvaluationError
from budwood.stats.rates import upper_rate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK = 1 << 22
"""Numbers drawn at once: bounds memory at about 100 MB whatever the number of cases."""


@dataclass(frozen=True)
class Interval:
    """A mean with its two one-sided bounds, over `n` values in `groups` groups."""

    mean: float
    low: float
    high: float
    n: int
    groups: int


def paired_interval(
    deltas: "Sequence[float] | NDArray[np.float64]",
    groups: Sequence[str] | None = None,
    *,
    resamples: int,
    seed: int,
    alpha: float,
) -> Interval:
    """Bound the mean of paired differences of scores in [0, 1], what was not seen included.

    A bootstrap cannot draw what did not happen: without a single loss it says that none ever will be. So where no difference
    is below zero, a share `upper_rate(0, groups, alpha)` of cases (about 3/n) is taken to fall to -1 and the lower bound
    moves accordingly; likewise upwards where none is above zero, and both ways where all are equal. A width of zero never
    comes out.

    Args and errors: those of `paired_bootstrap`; differences outside [-1, 1] are refused as well.
    """
    interval = paired_bootstrap(deltas, groups, resamples=resamples, seed=seed, alpha=alpha)
    worst, best = float(min(deltas)), float(max(deltas))
    if worst < -1 or best > 1:
        raise EvaluationError(
            f"Differences go from {worst:g} to {best:g}; scores in [0, 1] differ by at most 1.",
            mend="Scale the scores to [0, 1].",
        )
    unseen = upper_rate(0, interval.groups, alpha)
    flat = worst == best
    low, high = interval.low, interval.high
    if worst >= 0 or flat:
        low -= unseen * (low + 1)
    if best <= 0 or flat:
        high += unseen * (1 - high)
    return replace(interval, low=low, high=high)


def paired_bootstrap(
    deltas: "Sequence[float] | NDArray[np.float64]",
    groups: Sequence[str] | None = None,
    *,
    resamples: int,
    seed: int,
    alpha: float,
) -> Interval:
    """Bound the mean of paired differences by resampling alone.

    Whole groups are drawn with replacement and the mean is taken over the cases drawn, so cases that rise and fall together
    do not count as independent. Bounds are percentiles, each one-sided at `alpha`. All values equal give a width of zero: use
    `paired_interval` for decisions, or add what was not seen (`upper_rate`).

    Args:
        deltas: one difference for each case; finite.
        groups: group of each case; None: every case is its own.
        resamples: draws.
        seed: of the draws. The same values and groups give the same interval on every machine and in any order.
        alpha: error of each bound, between 0 and 0.5.

    Raises:
        EvaluationError: no values, values that are not finite, or another number of groups.

    Source: Efron and Tibshirani 1993, chapter 13; Miller, arXiv 2411.00640 for groups. Held to enumeration of all resamples by
    tests/stats/test_bootstrap.py.
    """
    import numpy as np

    values = np.asarray(deltas, dtype=np.float64)
    _check(values.shape, bool(np.isfinite(values).all()), groups, alpha, resamples)
    sums, sizes = _by_group(values, groups)
    count = len(sums)
    if values.min() == values.max():  # every draw has this mean, to the last digit
        return Interval(float(values[0]), float(values[0]), float(values[0]), len(values), count)
    generator = np.random.Generator(np.random.PCG64(seed))
    means = np.empty(resamples)
    step = max(1, BLOCK // count)
    for start in range(0, resamples, step):
        drawn = generator.integers(0, count, size=(min(step, resamples - start), count))
        means[start : start + len(drawn)] = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.quantile(means, [alpha, 1 - alpha])
    return Interval(float(values.mean()), float(low), float(high), len(values), count)


def _by_group(values: "NDArray[np.float64]", groups: Sequence[str] | None) -> "tuple[NDArray[np.float64], NDArray[np.float64]]":
    """Sum and size of each group, sorted: neither the order of the cases nor the groups' names may change the draws."""
    import numpy as np

    if groups is None:
        sums, sizes = values, np.ones_like(values)
    else:
        places: dict[str, int] = {}
        index = np.array([places.setdefault(group, len(places)) for group in groups])
        # Sorted within groups too, since a sum of floats depends on its order.
        order = np.lexsort((values, index))
        sums = np.bincount(index[order], weights=values[order]).astype(np.float64)
        sizes = np.bincount(index).astype(np.float64)
    order = np.lexsort((sums, sizes))
    return sums[order], sizes[order]


def _check(shape: tuple[int, ...], finite: bool, groups: Sequence[str] | None, alpha: float, resamples: int) -> None:
    if len(shape) != 1 or not shape[0]:
        raise EvaluationError("There is nothing to compare: no cases.", mend="Give a suite with at least one case.")
    if not finite:
        raise EvaluationError("A score is NaN or infinite, so no mean can be bounded.", mend="Leave such cases out, counted.")
    if groups is not None and len(groups) != shape[0]:
        raise EvaluationError(f"{shape[0]} values come with {len(groups)} groups.", mend="Give one group for each value.")
    if not 0 < alpha < 0.5 or resamples < 1:
        raise EvaluationError(f"alpha {alpha} with {resamples} resamples is no interval.", mend="Use 0 < alpha < 0.5.")
