"""Exact McNemar against a table and against counting all outcomes."""

import itertools

import pytest

from budwood.stats import mcnemar_exact


@pytest.mark.parametrize(
    ("regressed", "fixed", "p"),
    [(5, 0, 0.0625), (6, 0, 0.031), (6, 1, 0.125), (7, 1, 0.070), (8, 1, 0.039), (9, 2, 0.065), (12, 4, 0.077), (13, 4, 0.049)],
)
def test_table(regressed: int, fixed: int, p: float) -> None:
    assert mcnemar_exact(regressed, fixed) == pytest.approx(p, abs=0.0006)
    assert mcnemar_exact(fixed, regressed) == mcnemar_exact(regressed, fixed)


@pytest.mark.parametrize("pairs", range(1, 11))
def test_counting_all_outcomes(pairs: int) -> None:
    outcomes = [sum(coin) for coin in itertools.product((0, 1), repeat=pairs)]
    for regressed in range(pairs + 1):
        uneven = max(regressed, pairs - regressed)
        extreme = sum(max(heads, pairs - heads) >= uneven for heads in outcomes)
        assert mcnemar_exact(regressed, pairs - regressed) == pytest.approx(extreme / len(outcomes))


def test_no_discordant_pair_is_no_evidence() -> None:
    assert mcnemar_exact(0, 0) is None


def test_thousands_of_pairs() -> None:
    assert mcnemar_exact(0, 5000) == pytest.approx(0.0)
    assert mcnemar_exact(2500, 2500) == 1.0


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        mcnemar_exact(-1, 3)
