"""Bounds of a rate, k of n, and of the difference of two."""

import math


def upper_rate(k: int, n: int, alpha: float) -> float:
    """Give the exact one-sided upper bound of a rate of which k in n were seen (Clopper-Pearson).

    For k = 0 this is 1 - alpha^(1/n), close to 3/n at alpha = 0.05. With n = 0 nothing is known: 1.
    """
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is no rate")
    if k == n:
        return 1.0
    if k == 0:
        return float(1 - alpha ** (1 / n))
    from scipy.stats import beta

    return float(beta.ppf(1 - alpha, k + 1, n - k))


def wilson_interval(k: int, n: int, alpha: float) -> tuple[float, float]:
    """Give Wilson's score interval of a rate, each side at `alpha`; (0, 1) when n = 0."""
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is no rate")
    if n == 0:
        return 0.0, 1.0
    from scipy.stats import norm

    z = float(norm.ppf(1 - alpha))
    share = k / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def exact_interval(k: int, n: int, alpha: float) -> tuple[float, float]:
    """Give the exact (Clopper-Pearson) interval of a rate, each side at `alpha`; (0, 1) when n = 0."""
    if n == 0:
        return 0.0, 1.0
    return 1 - upper_rate(n - k, n, alpha), upper_rate(k, n, alpha)


def rise_interval(before: tuple[int, int], after: tuple[int, int], alpha: float) -> tuple[float, float]:
    """Give bounds of how much a rate has risen between two independent samples (k, n), each side at `alpha`.

    The intervals of the two rates are put together as in Newcombe's (1998) method 10, but exact ones instead of Wilson's, which
    are too sure of what was seen twice or thrice. So it errs on the wide side; held to that by tests/stats/test_outcomes.py.
    """
    (k_1, n_1), (k_2, n_2) = before, after
    if n_1 == 0 or n_2 == 0:
        return -1.0, 1.0
    low_1, high_1 = exact_interval(k_1, n_1, alpha)
    low_2, high_2 = exact_interval(k_2, n_2, alpha)
    rise = k_2 / n_2 - k_1 / n_1
    return (
        rise - math.hypot(k_2 / n_2 - low_2, high_1 - k_1 / n_1),
        rise + math.hypot(high_2 - k_2 / n_2, k_1 / n_1 - low_1),
    )
