"""The sample sizes of the published table, and what they mean."""

import math

import pytest

from budwood.stats import cases_to_settle, upper_rate


@pytest.mark.parametrize(
    ("flips", "margin", "half", "most"),
    [
        (0.05, 0.01, 1353, 3091),
        (0.05, 0.02, 338, 773),
        (0.05, 0.05, 54, 124),
        (0.10, 0.01, 2706, 6182),
        (0.10, 0.05, 108, 247),
        (0.20, 0.01, 5411, 12365),
        (0.20, 0.02, 1353, 3091),
        (0.20, 0.05, 216, 495),
    ],
)
def test_table(flips: float, margin: float, half: int, most: int) -> None:
    assert cases_to_settle(flips, margin, power=0.5) == pytest.approx(half, abs=1.5)
    assert cases_to_settle(flips, margin, power=0.8) == pytest.approx(most, abs=1.5)


@pytest.mark.parametrize("margin", [0.01, 0.05, 0.3])
def test_without_flips_the_unseen_decides(margin: float) -> None:
    cases = cases_to_settle(0.0, margin)
    assert upper_rate(0, cases, 0.05) <= margin < upper_rate(0, cases - 1, 0.05)


@pytest.mark.parametrize(("flips", "margin"), [(0.1, 0.0), (0.1, -0.1), (math.nan, 0.1), (1.5, 0.1), (0.1, math.nan)])
def test_refusals(flips: float, margin: float) -> None:
    with pytest.raises(ValueError, match="no number of cases"):
        cases_to_settle(flips, margin)
