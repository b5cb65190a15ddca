"""Limits are broken when there is no doubt, and only then; looking again and again does not make doubt go away."""

import random

import pytest

from budwood.recipe import CanarySection
from budwood.release.policy import judge
from budwood.stats.outcomes import Outcomes, bucket

NONE = CanarySection(max_error_rise=1.0, max_schema_error_rise=1.0, max_latency_ratio=0.0, min_requests=1)


def limited(**limits: float) -> CanarySection:
    return NONE.model_copy(update=limits)


def at(seconds: float, requests: int) -> Outcomes:
    return Outcomes(requests, latencies={bucket(seconds): requests})


def test_one_error_of_two_is_no_reason() -> None:
    found = judge(limited(max_error_rate=0.05, max_error_rise=0.02), Outcomes(2, 1), Outcomes(1_000, 1))
    assert found.outcome == "open"


def test_before_the_least_number_of_requests_nothing_is_decided() -> None:
    found = judge(limited(max_error_rate=0.05, min_requests=50), Outcomes(49, 49), Outcomes(1_000))
    assert (found.outcome, found.sentence) == ("open", "49 of 50 requests seen")


@pytest.mark.parametrize(("errors", "outcome"), [(0, "kept"), (10, "open"), (30, "broken")])
def test_an_absolute_limit(errors: int, outcome: str) -> None:
    found = judge(limited(max_error_rate=0.05), Outcomes(200, errors), Outcomes())
    assert found.outcome == outcome
    assert f"errors {errors} of 200" in found.findings[0].says


@pytest.mark.parametrize(
    ("stable", "outcome"), [(Outcomes(2_000, 10), "broken"), (Outcomes(2_000, 300), "open"), (Outcomes(), "open")]
)
def test_a_rise_is_held_against_what_the_stable_side_does(stable: Outcomes, outcome: str) -> None:
    assert judge(limited(max_error_rise=0.02), Outcomes(200, 30), stable).outcome == outcome


def test_schema_errors_are_counted_among_answers_that_had_a_schema() -> None:
    limits = limited(max_schema_error_rate=0.05)
    assert judge(limits, Outcomes(1_000, 0, 0, 0), Outcomes()).outcome == "kept"  # none had any
    assert judge(limits, Outcomes(1_000, 0, 40, 20), Outcomes()).outcome == "broken"


def test_latency_absolute_and_against_the_stable_side() -> None:
    assert judge(limited(max_latency_p95_s=1.0), at(0.5, 500), Outcomes()).outcome == "kept"
    assert judge(limited(max_latency_p95_s=1.0), at(1.5, 500), Outcomes()).outcome == "broken"
    assert judge(limited(max_latency_p95_s=1.0), at(0.5, 470) + at(1.5, 30), Outcomes()).outcome == "open"
    ratio = limited(max_latency_ratio=2.0)
    assert judge(ratio, at(1.5, 500), at(0.5, 500)).outcome == "broken"
    assert judge(ratio, at(0.6, 500), at(0.5, 500)).outcome == "kept"
    assert judge(ratio, at(1.5, 500), at(0.5, 20)).outcome == "open"  # too few to know the stable side's


def taken_back(rate: float, limits: CanarySection, trials: int) -> int:
    """How many of some releases with this error rate are taken back, looked at after every 20 of 1,000 requests."""
    wrong = 0
    for _ in range(trials):
        seen = Outcomes()
        for _ in range(50):
            seen += Outcomes(20, sum(random.random() < rate for _ in range(20)))
            if judge(limits, seen, Outcomes()).outcome == "broken":
                wrong += 1
                break
    return wrong


def test_looking_50_times_seldom_takes_back_what_is_at_the_limit_and_never_what_is_well_within_it() -> None:
    random.seed(7)
    limits = limited(max_error_rate=0.05, min_requests=50)
    assert taken_back(0.05, limits, 40) <= 4
    assert taken_back(0.025, limits, 20) == 0
    assert taken_back(0.15, limits, 20) == 20
