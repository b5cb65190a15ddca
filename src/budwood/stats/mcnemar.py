"""McNemar's test, exact."""


def mcnemar_exact(regressed: int, fixed: int) -> float | None:
    """Give the two-sided p of a split of discordant pairs at least as uneven as this one, were both kinds equally likely.

    None when there are no discordant pairs: that is no evidence, which is neither p = 1 nor a pass.

    Source: p = min(1, 2 · sum of C(n, k) / 2^n for k ≥ max), n = regressed + fixed; tests/stats/test_mcnemar.py has a table.
    """
    if regressed < 0 or fixed < 0:
        raise ValueError(f"counts cannot be negative: {regressed}, {fixed}")
    discordant = regressed + fixed
    if discordant == 0:
        return None
    from scipy.stats import binom

    return float(min(1.0, 2 * binom.sf(max(regressed, fixed) - 1, discordant, 0.5)))
