"""Comparison: paired by id, refusing what is not the same suite, counting what it does not know."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.evaluate.conftest import number_of, recipe_with, right

from budwood.errors import EvaluationError
from budwood.evaluate.compare import compare
from budwood.evaluate.report import Report
from budwood.evaluate.suite import Case
from budwood.stats import upper_rate

Make = Callable[..., Report]
DRAWS: dict[str, Any] = {"primary": "exact", "alpha": 0.05, "resamples": 500}


def ids(*numbers: int) -> tuple[str, ...]:
    return tuple(f"{number:064x}" for number in numbers)


def wrong_for(*numbers: int) -> Callable[[Case], str]:
    return lambda case: "{}" if number_of(case) in numbers else case.expected


def test_cases_are_sorted_into_lists(report_of: Make) -> None:
    compared = compare(report_of(wrong_for(0, 1)), report_of(wrong_for(1, 2, 3)), **DRAWS)
    assert compared.binary
    assert compared.fixed == ids(2, 3)
    assert compared.regressed == ids(0)
    assert compared.still_failing == ids(1)
    assert compared.unchanged == ids(*range(4, 12))
    assert compared.unknown == ()
    assert compared.delta.mean == pytest.approx(1 / 12)
    assert compared.delta.low < 1 / 12 < compared.delta.high
    assert (compared.delta.n, compared.delta.groups) == (12, 6)
    assert compared.p == 1.0
    assert compared.slices["channel"] == {"app": (6, 0.0), "mail": (6, pytest.approx(1 / 6))}
    assert compared.deltas["chrf"].mean > 0


def test_the_other_way_round_is_the_mirror_image(report_of: Make) -> None:
    one, other = report_of(wrong_for(0, 1)), report_of(wrong_for(1, 2, 3))
    forth, back = compare(one, other, **DRAWS), compare(other, one, **DRAWS)
    assert (forth.fixed, forth.regressed) == (back.regressed, back.fixed)
    assert forth.delta.mean == -back.delta.mean


def test_no_difference_is_no_certainty(report_of: Make) -> None:
    report = report_of(right)
    compared = compare(report, report, **DRAWS)
    unseen = upper_rate(0, 6, 0.05)
    assert (compared.delta.low, compared.delta.high) == pytest.approx((-unseen, unseen))
    assert compared.p is None


def test_the_order_of_cases_is_of_no_account(report_of: Make) -> None:
    one, other = report_of(wrong_for(0, 1)), report_of(wrong_for(1, 2, 3))
    turned = replace(other, cases=other.cases[::-1])
    assert compare(one, turned, **DRAWS) == compare(one, other, **DRAWS)


def test_scores_between_right_and_wrong_rise_or_fall(report_of: Make) -> None:
    one = report_of(lambda case: case.expected.replace("delivery", "repair"))
    other = report_of(lambda case: "{}" if number_of(case) == 1 else case.expected)
    compared = compare(one, other, primary="json_fields", alpha=0.05, resamples=500)
    assert not compared.binary
    assert compared.p is None
    assert compared.fixed == ids(1)
    assert compared.regressed == ids(4, 7, 10)


def test_a_missing_score_is_unknown_and_not_a_pass(report_of: Make) -> None:
    one, other = report_of(right), report_of(wrong_for(5))
    gap = {**one.cases[5], "scores": {**one.cases[5]["scores"], "exact": None}}
    holed = replace(one, cases=[*one.cases[:5], gap, *one.cases[6:]])
    compared = compare(holed, other, **DRAWS)
    assert compared.unknown == ids(5)
    assert compared.fixed == ()
    assert compared.delta.n == 11
    with pytest.raises(EvaluationError, match="None of 12 cases has a 'numeric' score"):
        compare(one, other, primary="numeric", alpha=0.05, resamples=500)


def test_other_suites_are_refused(report_of: Make, tmp_path: Path) -> None:
    one, other = report_of(right), report_of(right, recipe=recipe_with(tmp_path, max_cases=10))
    with pytest.raises(EvaluationError) as error:
        compare(one, other, **DRAWS)
    assert str(error.value) == (
        f"Cannot compare: the baseline report is for suite {other.suite[:12]}…, the candidate's for suite "
        f"{one.suite[:12]}… (2 cases differ).\n"
        "    Evaluate both the same way (`budwood evaluate`), then compare again."
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scorers": {"exact": 2}}, r"scorers of the baseline are {'exact': 2}"),
        ({"decoding": {"temperature": 0.7}}, r"decoding of the baseline are {'temperature': 0.7}"),
    ],
)
def test_other_scorers_or_decoding_are_refused(changes: dict[str, Any], words: str, report_of: Make) -> None:
    report = report_of(right)
    with pytest.raises(EvaluationError, match=words):
        compare(report, replace(report, **changes), **DRAWS)


def test_the_same_cases_under_one_digest(report_of: Make) -> None:
    report = report_of(right)
    with pytest.raises(EvaluationError, match=r"\(1 cases differ\)"):
        compare(report, replace(report, cases=report.cases[1:]), **DRAWS)


def test_a_difference_by_hand(report_of: Make) -> None:
    """The primary interval is the group bootstrap of the differences, nothing else."""
    compared = compare(report_of(wrong_for(0, 1)), report_of(wrong_for(1, 2, 3)), **DRAWS | {"resamples": 20_000})
    # Groups of two: (0, 1) lost one, (2, 3) won two, the other four nothing; all groups have the same size.
    draws = np.random.default_rng(1).choice([-0.5, 1.0, 0.0, 0.0, 0.0, 0.0], size=(20_000, 6)).mean(1)
    assert compared.delta.low == pytest.approx(np.quantile(draws, 0.05), abs=0.02)
    assert compared.delta.high == pytest.approx(np.quantile(draws, 0.95), abs=0.02)
