"""Bounds of a rate against the distribution that they are about."""

import math

import pytest

from budwood.stats import upper_rate, wilson_interval


def at_most(k: int, n: int, rate: float) -> float:
    return sum(math.comb(n, i) * rate**i * (1 - rate) ** (n - i) for i in range(k + 1))


@pytest.mark.parametrize(("k", "n"), [(0, 10), (0, 300), (1, 30), (3, 40), (29, 30)])
def test_at_the_bound_so_few_are_just_as_unlikely_as_alpha(k: int, n: int) -> None:
    assert at_most(k, n, upper_rate(k, n, 0.05)) == pytest.approx(0.05)


def test_none_seen_is_about_three_in_n() -> None:
    assert upper_rate(0, 1000, 0.05) == pytest.approx(3 / 1000, rel=0.01)


def test_nothing_known() -> None:
    assert upper_rate(0, 0, 0.05) == 1.0
    assert upper_rate(4, 4, 0.05) == 1.0
    assert wilson_interval(0, 0, 0.05) == (0.0, 1.0)


@pytest.mark.parametrize(("k", "n"), [(0, 20), (7, 20), (20, 20), (150, 300)])
def test_wilson_bounds_solve_the_score_equation(k: int, n: int) -> None:
    low, high = wilson_interval(k, n, 0.05)
    assert 0 <= low <= k / n <= high <= 1
    for bound in (low, high):
        if 0 < bound < 1:
            assert abs(k / n - bound) / math.sqrt(bound * (1 - bound) / n) == pytest.approx(1.6448536)


def test_impossible_counts_are_refused() -> None:
    for rate in (upper_rate, wilson_interval):
        with pytest.raises(ValueError, match="no rate"):
            rate(3, 2, 0.05)
