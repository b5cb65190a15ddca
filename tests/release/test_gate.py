"""The gate: what promotes, what is refused, and that lack of evidence never promotes."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budwood.errors import ReleaseError
from budwood.recipe import GateSection
from budwood.release.gate import judge, policy_digest, record_judgement
from budwood.release.report import Case, Report
from budwood.release.verdict import Verdict
from budwood.store import Store

from .conftest import case, report_of

GATE = GateSection(resamples=400)
LOOSE = GateSection(resamples=400, policy_margin=0.1, schema_margin=0.1, style_margin=0.1, quality_margin=0.1)


def scored(name: str, right: int, wrong: int, **values: Any) -> Report:
    """First `right` cases right, the others wrong."""
    cases = [case(f"c{number:04}", exact=float(number < right), **values) for number in range(right + wrong)]
    return report_of(cases, name=name)


def run(candidate: Report, baseline: Report, champion: Report | None = None, gate: GateSection = LOOSE) -> Verdict:
    return judge(candidate, baseline, champion, gate, primary="exact")


def test_a_clearly_better_candidate_is_promoted() -> None:
    verdict = run(scored("new", 80, 20), scored("base", 10, 90))
    assert verdict.verdict == "PROMOTE"
    assert verdict.exit_code == 0
    quality = verdict.checks[0]
    assert (quality.metric, quality.fixed, quality.regressed, quality.outcome) == ("quality", 70, 0, "pass")
    assert quality.p == pytest.approx(2 * 0.5**70)
    assert quality.mean == pytest.approx(0.7)


def test_a_worse_candidate_is_rejected_and_the_deciding_reason_comes_first() -> None:
    verdict = run(scored("new", 10, 90), scored("base", 80, 20))
    assert verdict.verdict == "REJECT"
    assert verdict.exit_code == 1
    assert verdict.reasons[0].startswith("quality against the baseline: not superior")


def test_the_same_answers_are_inconclusive_and_never_superior() -> None:
    verdict = run(scored("new", 50, 50), scored("base", 50, 50))
    assert verdict.verdict == "INCONCLUSIVE"
    assert verdict.exit_code == 2
    quality = verdict.checks[0]
    assert quality.p is None
    assert quality.low == pytest.approx(-(1 - 0.05 ** (1 / 100)))
    assert quality.high == pytest.approx(1 - 0.05 ** (1 / 100))


def test_zero_violations_on_few_cases_do_not_show_that_there_are_none() -> None:
    """Rule of three: with 60 cases up to 4.9 % may still violate, which a margin of 1 % does not allow."""
    verdict = run(scored("new", 60, 0), scored("base", 0, 60), gate=GATE)
    policy = next(check for check in verdict.checks if check.metric == "policy violations")
    assert verdict.verdict == "INCONCLUSIVE"
    assert policy.outcome == "unknown"
    assert policy.low == pytest.approx(-(1 - 0.05 ** (1 / 60)))
    assert policy.cases_needed == math.ceil(math.log(0.05) / math.log(0.99)) == 299
    assert "About 299 cases would settle it." in policy.reason
    assert run(scored("new", 299, 0), scored("base", 0, 299), gate=GATE).verdict == "PROMOTE"


def test_bad_63_all_right_against_all_wrong_is_no_zero_width_interval() -> None:
    quality = run(scored("new", 60, 0), scored("base", 0, 60)).checks[0]
    assert quality.low is not None
    assert quality.low < 1.0


def test_cases_of_one_group_count_as_one_piece_of_evidence() -> None:
    alone = run(scored("new", 80, 20), scored("base", 80, 20)).checks[0]
    twins = [case(f"c{n}", group=f"g{n // 10}", exact=float(n < 80)) for n in range(100)]
    grouped = run(report_of(twins), report_of(twins, name="base")).checks[0]
    assert alone.low is not None
    assert grouped.low is not None
    assert grouped.low == pytest.approx(-(1 - 0.05 ** (1 / 10)))
    assert grouped.low < alone.low


@pytest.mark.parametrize("count", [0, 1, 29])
def test_bad_63_too_few_cases_are_never_evidence(count: int) -> None:
    verdict = run(scored("new", count, 0), scored("base", 0, count))
    assert verdict.verdict == "INCONCLUSIVE"
    assert verdict.checks[0].cases_needed == 30


@pytest.mark.parametrize("side", ["candidate", "baseline", "champion"])
@pytest.mark.parametrize("score", [None, math.nan])
def test_bad_66_a_missing_score_never_passes(side: str, score: float | None) -> None:
    reports = {"candidate": scored("new", 90, 10), "baseline": scored("base", 0, 100), "champion": scored("old", 0, 100)}
    assert run(reports["candidate"], reports["baseline"], reports["champion"]).verdict == "PROMOTE"
    broken = list(reports[side].cases.values())
    broken[7] = case("c0007", exact=score)
    reports[side] = report_of(broken, name=side)
    verdict = run(reports["candidate"], reports["baseline"], reports["champion"])
    assert verdict.verdict == "INCONCLUSIVE"
    assert any("unknown for 1 of 100 cases" in reason for reason in verdict.reasons)


def test_cases_that_the_metric_does_not_apply_to_are_left_out_on_both_sides() -> None:
    def with_gaps(name: str, right: int) -> Report:
        cases = [case(f"c{n:04}", exact=None if n >= 100 else float(n < right)) for n in range(140)]
        return report_of(cases, name=name)

    verdict = run(with_gaps("new", 90), with_gaps("base", 0))
    assert (verdict.verdict, verdict.checks[0].cases) == ("PROMOTE", 100)
    floor = LOOSE.model_copy(update={"min_quality": 0.8})
    assert run(with_gaps("new", 90), with_gaps("base", 0), gate=floor).verdict == "PROMOTE"
    nothing = report_of([case(f"c{n:04}", exact=None) for n in range(140)])
    assert run(nothing, nothing).verdict == "INCONCLUSIVE"


def test_answers_of_one_token_are_timed_by_their_first() -> None:
    cases = list(scored("new", 90, 10).cases.values())
    base = report_of(list(scored("base", 0, 100).cases.values()), name="base", latency={"first_token_p50": 0.1})
    assert run(report_of(cases, latency={"first_token_p50": 0.2}), base).verdict == "PROMOTE"
    slow = run(report_of(cases, latency={"first_token_p50": 0.4}), base)
    assert slow.verdict == "REJECT"
    assert slow.reasons[0] == (
        "latency: 400.0 ms to the first token, 4.00 times the baseline's 100.0 ms; at most 3 times is allowed."
    )


def test_a_primary_metric_that_nobody_scored_never_passes() -> None:
    verdict = judge(scored("new", 90, 10), scored("base", 0, 100), None, LOOSE, primary="exakt")
    assert verdict.verdict == "INCONCLUSIVE"


def test_the_champion_must_not_be_lost_to() -> None:
    base, champion = scored("base", 0, 200), scored("old", 150, 50)
    assert run(scored("new", 150, 50), base, champion).verdict == "PROMOTE"
    assert run(scored("new", 90, 110), base, champion).verdict == "REJECT"
    superior = LOOSE.model_copy(update={"champion": "superior"})
    assert run(scored("new", 150, 50), base, champion, superior).verdict == "INCONCLUSIVE"
    assert run(scored("new", 190, 10), base, champion, superior).verdict == "PROMOTE"


@pytest.mark.parametrize(
    ("field", "bad", "metric"),
    [("policy", True, "policy violations"), ("style", True, "style violations"), ("schema_ok", False, "schema errors")],
)
def test_more_violations_than_the_live_release_are_rejected(field: str, bad: bool, metric: str) -> None:
    kept = {"schema_ok": True}
    cases = [case(f"c{n:04}", **(kept | ({field: bad} if n < 60 else {}))) for n in range(200)]
    verdict = run(report_of(cases), scored("base", 0, 200, **kept), scored("old", 200, 0, **kept))
    assert verdict.verdict == "REJECT"
    failed = [check for check in verdict.checks if check.outcome == "fail"]
    assert [(check.metric, check.against) for check in failed] == [(metric, "champion")]
    assert verdict.reasons[0] == failed[0].reason


def test_a_schema_that_only_one_side_was_checked_against_is_unknown() -> None:
    verdict = run(scored("new", 90, 10, schema_ok=True), scored("base", 0, 100))
    assert verdict.verdict == "INCONCLUSIVE"
    without = run(scored("new", 90, 10), scored("base", 0, 100))
    assert "schema errors" not in {check.metric for check in without.checks}


@pytest.mark.parametrize(
    ("new", "old", "decision"),
    [(0.029, 0.01, "PROMOTE"), (0.031, 0.01, "REJECT"), (None, 0.01, "INCONCLUSIVE"), (0.01, None, "INCONCLUSIVE")],
)
def test_latency_is_held_against_what_is_live(new: float | None, old: float | None, decision: str) -> None:
    cases = list(scored("new", 90, 10).cases.values())
    latency = [{} if value is None else {"seconds_per_token_median": value} for value in (new, old)]
    candidate = report_of(cases, latency=latency[0])
    champion = report_of(list(scored("old", 80, 20).cases.values()), name="old", latency=latency[1])
    assert run(candidate, scored("base", 0, 100), champion).verdict == decision


@pytest.mark.parametrize(("floor", "outcome"), [(0.5, "pass"), (0.79, "unknown"), (0.95, "fail")])
def test_the_floor_is_held_with_an_interval(floor: float, outcome: str) -> None:
    gate = LOOSE.model_copy(update={"min_quality": floor})
    verdict = run(scored("new", 160, 40), scored("base", 0, 200), gate=gate)
    check = next(check for check in verdict.checks if check.against == "floor")
    assert check.outcome == outcome
    assert check.mean == pytest.approx(0.8)
    assert verdict.verdict == {"pass": "PROMOTE", "unknown": "INCONCLUSIVE", "fail": "REJECT"}[outcome]


def test_bad_64_reports_that_cannot_be_compared_are_refused() -> None:
    candidate, base = scored("new", 90, 10), scored("base", 0, 100)
    cases = list(base.cases.values())
    with pytest.raises(ReleaseError) as caught:
        run(candidate, report_of(cases[:-9], name="base", suite="7e02" * 16))
    assert str(caught.value) == (
        "Cannot compare: the baseline report is for suite 7e027e027e02…, the candidate's for suite d11cd11cd11c… "
        "(9 cases differ).\n    Evaluate the baseline again on the candidate's suite, then judge again."
    )
    unlike: list[tuple[dict[str, Any], list[Case], str]] = [
        ({"scorers": {"exact": 2}}, cases, "scorer versions"),
        ({"decoding": {"temperature": 1.0}}, cases, "decoding"),
        ({}, cases[1:], "1 cases are in only one"),
    ]
    for values, other, words in unlike:
        with pytest.raises(ReleaseError, match=words):
            run(candidate, report_of(other, name="base", **values))
        with pytest.raises(ReleaseError, match=words):
            run(candidate, base, report_of(other, name="old", **values))


def test_bad_64_the_order_of_cases_does_not_matter() -> None:
    candidate, base = scored("new", 60, 40), scored("base", 40, 60)
    turned = report_of(list(base.cases.values())[::-1], name="base")
    assert run(candidate, base) == run(candidate, turned)


def test_the_policy_digest_changes_with_every_rule() -> None:
    digests = {policy_digest(GATE, "exact"), policy_digest(GATE, "chrf")}
    for field, value in {"champion": "superior", "min_quality": 0.5, "alpha": 0.01, "min_cases": 31}.items():
        digests.add(policy_digest(GATE.model_copy(update={field: value}), "exact"))
    assert len(digests) == 6


def test_a_verdict_is_plain_json_with_a_digest() -> None:
    verdict = run(scored("new", 90, 10), scored("base", 0, 100))
    assert verdict.as_body()["checks"][0]["metric"] == "quality"
    assert len(verdict.digest) == 64


def test_measured_times_name_no_verdict() -> None:
    """The same answers, a little faster: the same verdict, and so the same release."""
    cases = list(scored("new", 90, 10).cases.values())
    base = report_of(list(scored("base", 0, 100).cases.values()), name="base", latency={"first_token_p50": 0.1})
    one, other, slow = (run(report_of(cases, latency={"first_token_p50": value}), base) for value in (0.2, 0.21, 0.5))
    assert one.reasons != other.reasons
    assert one.digest == other.digest != slow.digest
    assert "latency: within 3 times the baseline's; the times lie beside the reports." in one.as_body()["reasons"]
    assert slow.as_body()["reasons"][0] == "latency: above 3 times the baseline's; the times lie beside the reports."


def test_each_use_of_a_test_set_is_counted_once(store: Store) -> None:
    first = run(scored("new", 90, 10), scored("base", 0, 100))
    second = run(scored("newer", 95, 5), scored("base", 0, 100))
    assert record_judgement(store, "support", first, who="anna") == 1
    assert record_judgement(store, "support", first, who="anna") == 1
    assert record_judgement(store, "support", second, who="anna") == 2
    events = [event for event in store.history("support") if event.kind == "judged"]
    assert [event.verdict for event in events] == [first.digest, second.digest]
    assert events[0].detail["verdict"] == "PROMOTE"


OUTCOMES = st.lists(st.sampled_from([0.0, 1.0]), min_size=40, max_size=40)


@settings(max_examples=40, deadline=None)
@given(new=OUTCOMES, old=OUTCOMES)
def test_a_candidate_that_fixed_no_more_than_it_broke_is_never_promoted(new: list[float], old: list[float]) -> None:
    candidate = report_of([case(f"c{n}", exact=score) for n, score in enumerate(new)])
    baseline = report_of([case(f"c{n}", exact=score) for n, score in enumerate(old)], name="base")
    verdict = run(candidate, baseline)
    if sum(new) <= sum(old):
        assert verdict.verdict != "PROMOTE"
    for check in verdict.checks:
        if check.low is not None and check.high is not None and check.mean is not None:
            assert check.low <= check.mean <= check.high
            assert check.low < check.high


@settings(max_examples=20, deadline=None)
@given(new=OUTCOMES, old=OUTCOMES)
def test_swapping_the_sides_mirrors_the_figures(new: list[float], old: list[float]) -> None:
    one = report_of([case(f"c{n}", exact=score) for n, score in enumerate(new)], name="one")
    other = report_of([case(f"c{n}", exact=score) for n, score in enumerate(old)], name="other")
    forth, back = run(one, other).checks[0], run(other, one).checks[0]
    assert (forth.fixed, forth.regressed, forth.p) == (back.regressed, back.fixed, back.p)
    assert forth.mean == pytest.approx(-(back.mean or 0.0))
