import math
from typing import Literal

import pytest

from budwood.train.schedule import learning_rate, validation_steps


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        ("cosine", [0.5, 1.0, *[0.5 * (1 + math.cos(math.pi * index / 8)) for index in range(8)]]),
    ],
)
def test_rates_of_ten_steps_with_two_rising(schedule: Literal["constant", "linear", "cosine"], expected: list[float]) -> None:
    rates = [learning_rate(step, 10, peak=1.0, warmup=0.2, schedule=schedule) for step in range(10)]
    assert rates == pytest.approx(expected)


def test_no_step_has_a_rate_of_zero() -> None:
    for steps in (1, 2, 3, 50):
        for schedule in ("constant", "linear", "cosine"):
            rates = [learning_rate(s, steps, peak=2.0, warmup=0.03, schedule=schedule) for s in range(steps)]
            assert all(0 < rate <= 2.0 for rate in rates)
            assert max(rates) == 2.0


@pytest.mark.parametrize(
    ("steps", "count", "expected"),
    [(10, 1, {10}), (10, 2, {5, 10}), (7, 3, {2, 5, 7}), (2, 6, {1, 2}), (1, 6, {1})],
)
def test_validations_are_spread_and_include_the_end(steps: int, count: int, expected: set[int]) -> None:
    assert validation_steps(steps, count) == expected
