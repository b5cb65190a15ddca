"""Do two samples come from the same source? A classifier tries to tell them apart; where it cannot, they mirror each other.

    found = two_sample(features, second, groups)
    match found:
        case TwoSample(auc=Interval(mean, low, high)): low > 0.5       # they differ
        case Untestable(reason): ...                                   # a sentence: too few rows, all of them the same, ...

Logistic regression, cross-validated with whole groups in a fold, so that what it is judged by is never what it has seen. AUC:
how often a row of the second sample, drawn at random, looks more like the second than one of the first does; 0.5 is
chance. Only rows of one fold are compared with each other, since the scores of two fits have no common zero.

Source: Lopez-Paz and Oquab 2017, arXiv 1610.06545; variance of an AUC by placements: DeLong 1988, by groups: Obuchowski
1997. Held to its nominal coverage by tests/stats/test_two_sample.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from budwood.stats.bootstrap import Interval
from budwood.stats.rates import upper_rate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDS = 5
FEWEST_ROWS = 20
FEWEST_GROUPS = 10
SHARED_FITS = 2.0
"""How much more the mean over folds varies than its folds say.

When there is nothing to tell apart, the AUC of fold i under a fit on fold j and that of j under i rest on the same product of
chance differences: each pair of folds counts twice in the mean but once in the variance. Nadeau and Bengio's (2003) corrected
variance for k folds, 1/k + 1/(k-1) instead of 1/k, is the same doubling. Where the samples differ it is too cautious.
"""


@dataclass(frozen=True)
class TwoSample:
    """How well the samples were told apart.

    Args:
        auc: 0.5: not at all; 1: always.
        accuracy: mean of the shares that were put on the right side, of each sample; 0.5: chance.
        scores: for each row, from a fit that has not seen its group; higher: more like the second. Fits differ in zero.
        weights: for each feature, of a fit to all rows; positive: speaks for the second.
    """

    auc: Interval
    accuracy: Interval
    scores: "NDArray[np.float64]"
    weights: "NDArray[np.float64]"

    @property
    def differ(self) -> bool:
        return self.auc.low > 0.5


@dataclass(frozen=True)
class Untestable:
    """Why no test was made; `reason` is a sentence."""

    reason: str


def two_sample(
    features: Any,
    second: "Sequence[bool] | NDArray[np.bool_]",
    groups: Sequence[str],
    *,
    alpha: float = 0.025,
    names: tuple[str, str] = ("the first sample", "the second sample"),
) -> TwoSample | Untestable:
    """Test whether two samples can be told apart.

    Args:
        features: `scipy.sparse.csr_matrix` or array, (rows, columns); rows of about length 1.
        second: which rows are of the second sample.
        groups: rows of a group rise and fall together and are never on both sides of a fit.
        alpha: error of each bound.
        names: of the samples, for the sentence where there is no test.

    Raises:
        ValueError: `second` or `groups` is not as long as there are rows.

    Cost: six fits of logistic regression, each some 50 products with the matrix.
    """
    import numpy as np

    side = np.asarray(second, dtype=bool)
    if not features.shape[0] == len(side) == len(groups):
        raise ValueError(f"{features.shape[0]} rows come with {len(side)} sides and {len(groups)} groups")
    known: dict[str, int] = {}
    group = np.array([known.setdefault(name, len(known)) for name in groups], dtype=np.int64)
    refused = _refuse(features, side, group, names)
    if refused is not None:
        return refused
    fold = _folds(side, group, list(known))
    used = np.unique(features.nonzero()[1])
    columns, features = features.shape[1], features[:, used]
    scores = np.zeros(len(side))
    for one in range(FOLDS):
        inside = fold == one
        weights, start = _fit(features[~inside], side[~inside])
        scores[inside] = features[inside] @ weights + start
    weights = np.zeros(columns)
    weights[used] = _fit(features, side)[0]
    auc = _interval(_auc(scores, side, fold), side, group, alpha)
    accuracy = _interval(_accuracy(scores, side), side, group, alpha)
    return TwoSample(auc, accuracy, scores, weights)


def _refuse(features: Any, side: "NDArray[np.bool_]", group: "NDArray[np.int64]", names: tuple[str, str]) -> Untestable | None:
    import numpy as np

    for name, rows in zip(names, (~side, side), strict=True):
        many, apart = int(rows.sum()), len(np.unique(group[rows]))
        if not many:
            return Untestable(f"There is nothing to compare with: {name} is empty.")
        if many < FEWEST_ROWS or apart < FEWEST_GROUPS:
            return Untestable(
                f"Too little to tell: {name} has {many:,} row{'s' * (many != 1)} in {apart:,} group{'s' * (apart != 1)}; "
                f"at least {FEWEST_ROWS} in {FEWEST_GROUPS} are needed."
            )
    first = features[0]
    spread = abs(features - _repeat(first, features.shape[0])).max() if features.shape[1] else 0.0
    if spread < 1e-12:
        return Untestable("There is nothing to tell apart: all rows of both are the same.")
    return None


def _repeat(row: Any, times: int) -> Any:
    import numpy as np
    from scipy.sparse import issparse, vstack

    return vstack([row] * times, format="csr") if issparse(row) else np.broadcast_to(row, (times, *row.shape))


def _folds(side: "NDArray[np.bool_]", group: "NDArray[np.int64]", names: Sequence[str]) -> "NDArray[np.int64]":
    """Deal whole groups, large ones first, each to the fold that has least of what it holds; equals in order of a hash."""
    import numpy as np

    held = np.stack([np.bincount(group[rows], minlength=len(names)) for rows in (~side, side)], axis=1)
    shares = held / held.sum(0)
    hashed = [blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in names]
    order = sorted(range(len(names)), key=lambda one: (-shares[one].sum(), hashed[one]))
    loads = np.zeros((FOLDS, 2))
    of_group = np.zeros(len(names), dtype=np.int64)
    for one in order:
        cost = loads @ shares[one]
        fold = min(range(FOLDS), key=lambda place: (cost[place], loads[place].sum()))
        of_group[one] = fold
        loads[fold] += shares[one]
    return of_group[group]


def _fit(features: Any, side: "NDArray[np.bool_]") -> "tuple[NDArray[np.float64], float]":
    """Fit logistic regression in which both samples weigh the same; penalty |w|²/2 on a loss summed over rows."""
    import numpy as np
    from scipy.optimize import minimize
    from scipy.special import expit

    sign = np.where(side, 1.0, -1.0)
    second = max(1, int(side.sum()))
    share = np.where(side, 1 / second, 1 / max(1, len(side) - second)) * len(side) / 2

    def loss(point: "NDArray[np.float64]") -> "tuple[float, NDArray[np.float64]]":
        margin = sign * (features @ point[:-1] + point[-1])
        value = (share * np.logaddexp(0, -margin)).sum() + point[:-1] @ point[:-1] / 2
        pull = -share * sign * expit(-margin)
        return value, np.append(features.T @ pull + point[:-1], pull.sum())

    start = np.zeros(features.shape[1] + 1)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200, "gtol": 1e-3})
    return found.x[:-1], float(found.x[-1])


@dataclass(frozen=True)
class _Estimate:
    """A mean, and how much each row moved it (zero in the mean of each sample)."""

    mean: float
    influence: "NDArray[np.float64]"


def _auc(scores: "NDArray[np.float64]", side: "NDArray[np.bool_]", fold: "NDArray[np.int64]") -> _Estimate:
    """Mean over folds, weighted by the pairs that each compares; influence by placements (DeLong)."""
    import numpy as np

    influence = np.zeros(len(scores))
    parts = []
    for one in range(FOLDS):
        first, second = np.flatnonzero((fold == one) & ~side), np.flatnonzero((fold == one) & side)
        if not len(first) or not len(second):
            continue
        below, above = _placed(scores[second], scores[first]), 1 - _placed(scores[first], scores[second])
        parts.append((len(first) * len(second), first, second, below, above))
    pairs = sum(part[0] for part in parts)
    mean = sum(many * float(below.mean()) for many, _, _, below, _ in parts) / pairs
    for many, first, second, below, above in parts:
        influence[second] = many / pairs * (below - below.mean()) / len(second)
        influence[first] = many / pairs * (above - above.mean()) / len(first)
    return _Estimate(mean, influence)


def _placed(values: "NDArray[np.float64]", among: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """For each value, the share of the others that lie below it; equals count half."""
    import numpy as np

    ranked = np.sort(among)
    below, up_to = np.searchsorted(ranked, values, "left"), np.searchsorted(ranked, values, "right")
    return (below + up_to) / (2 * len(among))


def _accuracy(scores: "NDArray[np.float64]", side: "NDArray[np.bool_]") -> _Estimate:
    import numpy as np

    right = np.where(scores == 0, 0.5, (scores > 0) == side)
    shares = [right[rows].mean() for rows in (~side, side)]
    influence = np.where(side, (right - shares[1]) / side.sum(), (right - shares[0]) / (~side).sum()) / 2
    return _Estimate(float(np.mean(shares)), influence)


def _interval(estimate: _Estimate, side: "NDArray[np.bool_]", group: "NDArray[np.int64]", alpha: float) -> Interval:
    """Bound a mean by what its groups did to it, on the logit scale, which keeps it within 0 and 1."""
    import numpy as np
    from scipy.special import expit, logit
    from scipy.stats import t

    moved = np.bincount(group, weights=estimate.influence)
    count = len(moved)
    fewer = min(len(np.unique(group[rows])) for rows in (side, ~side))
    deviation = float(np.sqrt(SHARED_FITS * (moved**2).sum() * count / (count - 1)))
    # What never went wrong among so few groups may still do so: the bound that its rate has, or that its chance has.
    unseen = upper_rate(0, fewer, alpha)
    mean = min(max(estimate.mean, unseen / 2), 1 - unseen / 2)
    reach = t.ppf(1 - alpha, fewer - 1) * deviation / (mean * (1 - mean))
    low, high = (float(expit(logit(mean) + way * reach)) for way in (-1, 1))
    return Interval(estimate.mean, min(low, estimate.mean), max(high, estimate.mean), len(side), count)
