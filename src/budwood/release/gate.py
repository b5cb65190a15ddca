"""The promotion gate: three reports and the rules in, PROMOTE, REJECT or INCONCLUSIVE out. A pure function.

All comparisons are paired by case. Quality must be superior to the plain base (lower bound above zero) and superior or
non-inferior to what is live; policy, schema, style and latency must not get worse by more than their margins, against what
is live, or against the plain base where nothing is. Missing scores, too few cases and intervals that hold both answers are
INCONCLUSIVE: a gate never promotes for lack of evidence.
"""

import math
from collections.abc import Callable, Sequence

from budwood.errors import ReleaseError
from budwood.identity import Digest, digest_json, short
from budwood.recipe import GateSection
from budwood.release.checks import Pairs, check_difference, check_floor, check_latency, unknown
from budwood.release.report import Case, Report
from budwood.release.verdict import Check, Decision, Verdict
from budwood.store import HistoryEvent, Store

GATE_VERSION = 2
"""Raised when the same reports and rules would be judged otherwise."""
SEED = 0


def judge(candidate: Report, baseline: Report, champion: Report | None, gate: GateSection, *, primary: str) -> Verdict:
    """Judge a candidate.

    Args:
        candidate: report of what wants to go live.
        baseline: report of the plain base on the same suite.
        champion: report of what is live now; None when nothing is.
        gate: the rules.
        primary: the scorer that the rules call quality.

    Raises:
        ReleaseError: the reports are for different suites, cases, scorer versions or decoding settings.
    """
    for name, other in (("baseline", baseline), ("champion", champion)):
        if other is not None:
            _refuse_unlike(candidate, other, name)
    checks = _checks(candidate, baseline, champion, gate, primary)
    order = {"fail": 0, "unknown": 1, "pass": 2}
    ordered = sorted(checks, key=lambda check: order[check.outcome])
    return Verdict(
        verdict=_decide(checks),
        reasons=tuple(check.reason for check in ordered),
        checks=tuple(checks),
        policy_digest=policy_digest(gate, primary),
        candidate=candidate.digest,
        baseline=baseline.digest,
        champion=champion.digest if champion else None,
        champion_subject=champion.subject if champion else None,
        suite=candidate.suite,
        seed=SEED,
    )


def policy_digest(gate: GateSection, primary: str) -> Digest:
    """Name the rules: what a verdict was given under."""
    return digest_json({"gate": gate.model_dump(mode="json"), "primary": primary, "version": GATE_VERSION})


def record_judgement(store: Store, name: str, verdict: Verdict, *, who: str, reason: str = "") -> int:
    """Put a verdict on record and return how often this suite has been used by a gate, this time included.

    A test set wears out: each look at it makes the next one a little less of a surprise. The same verdict on the same
    reports is no new look and is counted once.
    """
    uses = [event for event in store.history() if event.kind == "judged" and event.detail.get("suite") == verdict.suite]
    if not any(event.verdict == verdict.digest for event in uses):
        detail = {"suite": verdict.suite, "verdict": verdict.verdict, "policy": verdict.policy_digest}
        event = HistoryEvent(
            0, "", "judged", who, name, to=verdict.candidate, verdict=verdict.digest, reason=reason, detail=detail
        )
        uses.append(store.add_event(event))
    return len(uses)


def _checks(candidate: Report, baseline: Report, champion: Report | None, gate: GateSection, primary: str) -> list[Check]:
    def quality(case: Case) -> float | None:
        return case.scores.get(primary)

    live, live_name = (champion, "champion") if champion is not None else (baseline, "baseline")
    checks = [_compare("quality", candidate, baseline, "baseline", quality, gate, rule="superior", margin=0.0)]
    if champion is not None:
        margin = 0.0 if gate.champion == "superior" else gate.quality_margin
        checks.append(_compare("quality", candidate, champion, "champion", quality, gate, rule=gate.champion, margin=margin))
    if gate.min_quality > 0:
        values = [quality(case) for case in candidate.cases.values()]
        groups = [case.group for case in candidate.cases.values()]
        checks.append(check_floor(values, groups, gate))
    no_worse: Sequence[tuple[str, Callable[[Case], float | None], float]] = (
        ("policy violations", _policy_kept, gate.policy_margin),
        ("schema errors", _schema_kept, gate.schema_margin),
        ("style violations", _style_kept, gate.style_margin),
    )
    for metric, value, margin in no_worse:
        if metric == "schema errors" and _has_no_schema(candidate) and _has_no_schema(live):
            continue
        checks.append(_compare(metric, candidate, live, live_name, value, gate, rule="non-inferior", margin=margin))
    checks.append(check_latency(candidate.latency, live.latency, live_name, gate, len(candidate.cases)))
    return checks


def _compare(
    metric: str,
    candidate: Report,
    other: Report,
    against: str,
    value: Callable[[Case], float | None],
    gate: GateSection,
    *,
    rule: str,
    margin: float,
) -> Check:
    ids = sorted(candidate.cases)
    pairs = [(value(candidate.cases[case_id]), value(other.cases[case_id]), case_id) for case_id in ids]
    # What applies to a case on neither side is no question of this metric; on one side only, it is an unknown.
    asked = [pair for pair in pairs if pair[:2] != (None, None)]
    known = [(a, b, case_id) for a, b, case_id in asked if a is not None and b is not None and not math.isnan(a + b)]
    if len(known) < len(asked):
        reason = f"{metric} against the {against}: unknown for {len(asked) - len(known):,} of {len(asked):,} cases."
        return unknown(metric, against, rule, margin, len(asked), reason)
    groups = [candidate.cases[case_id].group for _, _, case_id in known]
    both = Pairs(metric, against, [a for a, _, _ in known], [b for _, b, _ in known], groups)
    return check_difference(both, gate, rule=rule, margin=margin, seed=SEED)


def _policy_kept(case: Case) -> float:
    return 0.0 if case.policy else 1.0


def _style_kept(case: Case) -> float:
    return 0.0 if case.style else 1.0


def _schema_kept(case: Case) -> float | None:
    return None if case.schema_ok is None else float(case.schema_ok)


def _has_no_schema(report: Report) -> bool:
    return all(case.schema_ok is None for case in report.cases.values())


def _decide(checks: Sequence[Check]) -> Decision:
    outcomes = {check.outcome for check in checks}
    if "fail" in outcomes:
        return "REJECT"
    return "PROMOTE" if outcomes == {"pass"} else "INCONCLUSIVE"


def _refuse_unlike(candidate: Report, other: Report, name: str) -> None:
    again = f"Evaluate the {name} again on the candidate's suite, then judge again."
    differing = len(candidate.cases.keys() ^ other.cases.keys())
    if candidate.suite != other.suite:
        raise ReleaseError(
            f"Cannot compare: the {name} report is for suite {short(other.suite)}…, the candidate's for suite "
            f"{short(candidate.suite)}… ({differing:,} cases differ).",
            mend=again,
        )
    if differing:
        raise ReleaseError(
            f"Cannot compare: {differing:,} cases are in only one of the candidate's and the {name} report.", mend=again
        )
    for what, mine, theirs in (
        ("scorer versions", candidate.scorers, other.scorers),
        ("decoding", candidate.decoding, other.decoding),
    ):
        if mine != theirs:
            raise ReleaseError(
                f"Cannot compare: {what} of the {name} report is {theirs}, of the candidate's {mine}.", mend=again
            )
