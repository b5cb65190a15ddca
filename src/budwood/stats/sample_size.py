"""How many cases would settle a question."""

import math


def cases_to_settle(flip_rate: float, margin: float, *, power: float = 0.8, alpha: float = 0.05) -> int:
    """Estimate the cases after which a one-sided bound lies on the right side of a distance.

    Args:
        flip_rate: share of cases that differ between the two sides, either way. With 0 there is no variance to go by; what
            was not seen decides (`upper_rate`), which takes about 3 / margin cases.
        margin: distance between the observed mean and the limit, above 0.
        power: chance that so many cases are enough; 0.5: the bound then just touches when the mean is as observed.
        alpha: error of the bound.

    Source: n = (z_alpha + z_power)^2 · flip_rate / margin^2, the variance of a difference in {-1, 0, 1} being at most its
    flip rate. tests/stats/test_sample_size.py has a table.
    """
    if not (0 <= flip_rate <= 1 and margin > 0 and 0 < power < 1 and 0 < alpha < 0.5):
        raise ValueError(f"no number of cases for flip rate {flip_rate}, margin {margin}, power {power}, alpha {alpha}")
    if flip_rate == 0:
        return 1 if margin >= 1 else math.ceil(math.log(alpha) / math.log1p(-margin))
    from scipy.stats import norm

    z = float(norm.ppf(1 - alpha)) + float(norm.ppf(power))
    return max(1, math.ceil(z * z * flip_rate / margin**2))
