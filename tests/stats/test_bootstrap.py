"""The interval against enumeration of every resample, against simulation, and at its edges."""

import itertools
import random

import numpy as np
import pytest

from budwood.errors import EvaluationError
from budwood.stats import paired_bootstrap, paired_interval, upper_rate

BY_HAND = {"resamples": 4000, "seed": 0, "alpha": 0.05}


def quantile_of_all_resamples(sums: list[float], sizes: list[int], alpha: float) -> tuple[float, float]:
    """Every one of the n^n equally likely resamples, counted."""
    places = range(len(sums))
    means = [
        sum(sums[i] for i in drawn) / sum(sizes[i] for i in drawn) for drawn in itertools.product(places, repeat=len(sums))
    ]
    low, high = np.quantile(means, [alpha, 1 - alpha])
    return float(low), float(high)


@pytest.mark.parametrize("deltas", [[0, 1, 0, -1, 1], [0.5, -0.25, 0.0, 1.0], [1, 1, 1, -1, -1, 0]])
def test_bounds_are_those_of_all_resamples(deltas: list[float]) -> None:
    interval = paired_bootstrap(deltas, resamples=40_000, seed=3, alpha=0.1)
    low, high = quantile_of_all_resamples(deltas, [1] * len(deltas), 0.1)
    assert interval.mean == pytest.approx(np.mean(deltas))
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.02)
    assert (interval.n, interval.groups) == (len(deltas), len(deltas))


def test_groups_are_drawn_whole() -> None:
    deltas, groups = [1, 1, 1, 0, -1, 0, 0], ["a", "a", "a", "b", "b", "c", "d"]
    interval = paired_bootstrap(deltas, groups, resamples=40_000, seed=3, alpha=0.1)
    low, high = quantile_of_all_resamples([3, -1, 0, 0], [3, 2, 1, 1], 0.1)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.02)
    assert (interval.n, interval.groups) == (7, 4)


def test_groups_that_agree_count_once() -> None:
    alone = paired_bootstrap([1, -1] * 20, resamples=4000, seed=0, alpha=0.05)
    in_tens = paired_bootstrap([1] * 20 + [-1] * 20, [str(i // 10) for i in range(40)], resamples=4000, seed=0, alpha=0.05)
    assert in_tens.high - in_tens.low > 2 * (alone.high - alone.low)


def test_order_and_names_change_nothing() -> None:
    deltas = [0.1 * (i % 7) - 0.3 for i in range(60)]
    groups = [f"group {i // 3}" for i in range(60)]
    shuffled = list(zip(deltas, groups, strict=True))
    random.Random(1).shuffle(shuffled)
    renamed = [f"{hash(group)} {group[::-1]}" for _, group in shuffled]
    expected = paired_bootstrap(deltas, groups, **BY_HAND)  # type: ignore[arg-type]
    found = paired_bootstrap([delta for delta, _ in shuffled], renamed, **BY_HAND)  # type: ignore[arg-type]
    assert (found.low, found.high) == (expected.low, expected.high)
    assert paired_bootstrap(deltas[::-1], **BY_HAND).low == paired_bootstrap(deltas, **BY_HAND).low  # type: ignore[arg-type]


def test_a_block_boundary_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    deltas = [0, 1, -1, 1, 0, 0.5]
    whole = paired_bootstrap(deltas, resamples=1000, seed=4, alpha=0.05)
    monkeypatch.setattr("budwood.stats.bootstrap.BLOCK", 7 * len(deltas))
    assert paired_bootstrap(deltas, resamples=1000, seed=4, alpha=0.05) == whole


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        (0.0, -upper_rate(0, 40, 0.05), upper_rate(0, 40, 0.05)),
        (1.0, 1 - 2 * upper_rate(0, 40, 0.05), 1.0),
        (-1.0, -1.0, -1 + 2 * upper_rate(0, 40, 0.05)),
    ],
)
def test_equal_values_are_no_certainty(value: float, low: float, high: float) -> None:
    interval = paired_interval([value] * 40, resamples=500, seed=0, alpha=0.05)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((value, low, high))
    assert paired_bootstrap([value] * 40, resamples=500, seed=0, alpha=0.05).low == value


def test_equal_values_between_the_ends_are_no_certainty_either() -> None:
    interval = paired_interval([-0.5] * 40, resamples=500, seed=0, alpha=0.05)
    assert interval.low < -0.5 < interval.high


def test_one_group_is_as_good_as_no_evidence() -> None:
    interval = paired_interval([1, 1, 0, 1], ["same"] * 4, resamples=500, seed=0, alpha=0.05)
    assert interval.low < -0.9


def test_gains_without_a_loss_keep_the_chance_of_one() -> None:
    deltas = [1] * 30 + [0] * 70
    plain = paired_bootstrap(deltas, resamples=2000, seed=0, alpha=0.05)
    wide = paired_interval(deltas, resamples=2000, seed=0, alpha=0.05)
    assert wide.low == pytest.approx(plain.low - upper_rate(0, 100, 0.05) * (1 + plain.low))
    assert wide.high == plain.high


@pytest.mark.parametrize(
    ("deltas", "groups", "alpha", "words"),
    [
        ([], None, 0.05, "nothing to compare"),
        ([0.0, float("nan")], None, 0.05, "NaN"),
        ([0.0, 1.0], ["a"], 0.05, "2 values come with 1 groups"),
        ([0.0, 1.0], None, 0.5, "no interval"),
        ([0.0, 3.0], None, 0.05, "from 0 to 3"),
    ],
)
def test_refusals(deltas: list[float], groups: list[str] | None, alpha: float, words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        paired_interval(deltas, groups, resamples=100, seed=0, alpha=alpha)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cases", "better", "worse"),
    [(60, 0.1, 0.1), (200, 0.03, 0.03), (200, 0.0, 0.02), (300, 0.2, 0.05), (100, 0.005, 0.005), (40, 0.9, 0.01)],
)
def test_the_true_mean_is_seldom_outside(cases: int, better: float, worse: float) -> None:
    """Each bound may be wrong in 5 % of suites; percentiles of few discordant cases are a little worse, never 10 %."""
    generator = np.random.Generator(np.random.PCG64(11))
    suites = 600
    below = above = 0
    for suite in range(suites):
        deltas = generator.choice([-1.0, 0.0, 1.0], size=cases, p=[worse, 1 - better - worse, better])
        interval = paired_interval(deltas, resamples=400, seed=suite, alpha=0.05)
        below += better - worse < interval.low
        above += better - worse > interval.high
    assert below / suites < 0.1
    assert above / suites < 0.1
