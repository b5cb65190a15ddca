"""Counts that add up, and bounds that hold: against plain sorting and the binomial distribution."""

import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from budwood.stats import exact_interval, rise_interval
from budwood.stats.outcomes import WIDTH, Outcomes, bucket, edge, read_outcomes

LATENCIES = st.lists(st.floats(0.0, 1_000.0), min_size=1, max_size=60)


def counted(latencies: list[float]) -> Outcomes:
    found = Outcomes()
    for seconds in latencies:
        found += Outcomes(1, latencies={bucket(seconds): 1})
    return found


@settings(deadline=None)
@given(st.floats(0.0, 10_000.0))
def test_a_latency_lies_within_its_bucket(seconds: float) -> None:
    number = bucket(seconds)
    assert edge(number) <= seconds * (1 + 1e-9)
    assert seconds <= edge(number + 1) * (1 + 1e-9)


@settings(deadline=None)
@given(LATENCIES, LATENCIES)
def test_counts_of_two_servers_add_up_to_those_of_one(one: list[float], other: list[float]) -> None:
    assert counted(one) + counted(other) == counted(one + other)
    assert read_outcomes(counted(one).as_dict()) == counted(one)


@settings(deadline=None)
@given(LATENCIES)
def test_a_quantile_is_the_sorted_ones_to_a_buckets_width(latencies: list[float]) -> None:
    true = sorted(latencies)[math.ceil(0.95 * len(latencies)) - 1]
    found = counted(latencies).quantile(0.95)
    assert true <= found * (1 + 1e-9)
    assert found <= max(true, 0.001) * WIDTH * (1 + 1e-9)


@settings(deadline=None)
@given(LATENCIES, st.floats(0.001, 1_000.0))
def test_bounds_of_the_share_slower_hold_the_share_that_was_seen(latencies: list[float], limit: float) -> None:
    low, high = counted(latencies).share_slower(limit, 0.01)
    assert low <= sum(one > limit for one in latencies) / len(latencies) <= high


def test_bounds_of_a_quantile_cover_it_as_often_as_they_say() -> None:
    random.seed(5)
    true = -math.log(0.05)  # of the exponential distribution
    misses = [0, 0]
    for _ in range(300):
        low, high = counted([random.expovariate(1.0) for _ in range(150)]).quantile_bounds(0.95, 0.05)
        misses[0] += low > true
        misses[1] += high < true
    # 5 % each side is 15 of 300; the width of a bucket makes them rarer, never more frequent.
    assert misses[0] <= 25
    assert misses[1] <= 25


def test_too_few_requests_bound_nothing() -> None:
    assert counted([1.0] * 10).quantile_bounds(0.95, 0.001)[1] == math.inf
    assert Outcomes().quantile_bounds(0.95, 0.001) == (0.0, math.inf)
    assert exact_interval(0, 0, 0.01) == (0.0, 1.0)
    assert rise_interval((0, 0), (5, 10), 0.01) == (-1.0, 1.0)


def test_a_rise_is_covered_as_often_as_it_says() -> None:
    random.seed(6)
    below = 0
    for _ in range(800):
        before = sum(random.random() < 0.02 for _ in range(400))
        after = sum(random.random() < 0.07 for _ in range(100))
        low, high = rise_interval((before, 400), (after, 100), 0.05)
        below += low > 0.05
        assert low <= after / 100 - before / 400 <= high
    assert below <= 40  # 5 %
