"""Bounds of a rate: k of n."""

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
