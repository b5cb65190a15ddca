"""How many cases would settle a question."""

import math


def cases_to_settle(flip_rate: float, margin: float, *, power: float = 0.8, alpha: float = 0.05) -> int:
    """Estimate the cases after which a one-sided bound lies on the right side of a distance.

    Args:
        flip_rate: share of cases that differ between the two sides, either way.
        margin: distance between the observed mean and the limit.
        power: chance that so many cases are enough.
        alpha: error of the bound.

    Source: n = (z_alpha + z_power)^2 · flip_rate / margin^2, the variance of a difference in {-1, 0, 1} being at most its
    flip rate.
    """
    if margin <= 0:
        raise ValueError(f"margin {margin} must be above 0")
    from scipy.stats import norm

    z = float(norm.ppf(1 - alpha)) + float(norm.ppf(power))
    return max(1, math.ceil(z * z * flip_rate / margin**2))
