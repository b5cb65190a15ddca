"""The statistics of a gate: one check each, with its interval, its margin and a sentence.

Differences are candidate minus the other and more is better, so a bound means the same for every metric. A bootstrap cannot
see what did not happen: where no case got worse (or none better), the share that might is bounded by the exact binomial
limit, about 3/n, and the interval is widened by that. So a zero-width interval is never taken as evidence.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from budwood.recipe import GateSection
from budwood.release.verdict import LATENCY, Check, Outcome

_PACES = {"seconds_per_token_median": "a token", "first_token_p50": "to the first token"}


@dataclass(frozen=True)
class Pairs:
    """Values of the same cases on both sides, in [0, 1], with the group of each case."""

    metric: str
    against: str
    new: Sequence[float]
    old: Sequence[float]
    groups: Sequence[str]


@dataclass(frozen=True)
class Bounds:
    mean: float
    low: float
    high: float


def check_difference(pairs: Pairs, gate: GateSection, *, rule: str, margin: float, seed: int) -> Check:
    """Compare two sides case by case.

    Args:
        pairs: values of both sides.
        gate: its alpha, resamples and min_cases.
        rule: "superior": the lower bound must be above 0; "non-inferior": above -margin.
        margin: largest loss accepted.
        seed: of the bootstrap.
    """
    cases = len(pairs.new)
    title = f"{pairs.metric} against the {pairs.against}"
    if cases < gate.min_cases:
        reason = f"{title}: {cases} cases are no evidence, at least {gate.min_cases} are needed."
        return unknown(pairs.metric, pairs.against, rule, margin, cases, reason, needed=gate.min_cases)
    delta = [a - b for a, b in zip(pairs.new, pairs.old, strict=True)]
    bounds = _bounds(delta, pairs.groups, gate, seed)
    limit = -margin if rule == "non-inferior" else 0.0
    outcome = _outcome(bounds, limit, superior=rule == "superior")
    fixed, regressed = sum(value > 0 for value in delta), sum(value < 0 for value in delta)
    needed = _cases_needed(delta, bounds, limit, gate) if outcome == "unknown" else None
    return Check(
        metric=pairs.metric,
        against=pairs.against,
        rule=rule,
        outcome=outcome,
        mean=bounds.mean,
        low=bounds.low,
        high=bounds.high,
        margin=limit,
        cases=cases,
        fixed=fixed,
        regressed=regressed,
        p=_mcnemar(pairs, regressed, fixed),
        cases_needed=needed,
        reason=_sentence(title, rule, outcome, bounds, limit, (fixed, regressed, cases), needed),
    )


def check_floor(values: Sequence[float | None], groups: Sequence[str], gate: GateSection) -> Check:
    """Check that the candidate's own mean lies above `min_quality`."""
    applies = [(value, group) for value, group in zip(values, groups, strict=True) if value is not None]
    known = [value for value, _ in applies if not math.isnan(value)]
    if len(known) < len(applies) or len(known) < gate.min_cases:
        reason = f"quality: {len(known)} of {len(applies)} cases have a score, at least {gate.min_cases} and all are needed."
        return unknown("quality", "floor", "at least", gate.min_quality, len(known), reason)
    groups = [group for _, group in applies]
    bounds = _bounds([value - gate.min_quality for value in known], groups, gate, 0)
    outcome = _outcome(bounds, 0.0, superior=False)
    shown = Bounds(*(value + gate.min_quality for value in (bounds.mean, bounds.low, bounds.high)))
    verb = {"pass": "is above", "fail": "is below", "unknown": "may be above or below"}[outcome]
    reason = f"quality {shown.mean:.3f} [{shown.low:.3f}, {shown.high:.3f}] {verb} the floor {gate.min_quality:g}."
    return Check(
        "quality",
        "floor",
        "at least",
        outcome,
        shown.mean,
        shown.low,
        shown.high,
        gate.min_quality,
        len(known),
        0,
        0,
        None,
        None,
        reason,
    )


def check_latency(
    candidate: Mapping[str, float], other: Mapping[str, float], against: str, gate: GateSection, cases: int
) -> Check:
    """Compare medians of seconds per token; the limit is a ratio, wide enough for the noise of a median.

    Answers of one token have no pace: where a side has none, the time to the first token is compared.
    """
    key = next((key for key in _PACES if key in candidate and key in other), None)
    if key is None:
        side = "candidate" if not set(_PACES) & set(candidate) else against
        reason = f"latency: not measured for the {side}."
        return unknown(LATENCY, against, "ratio at most", gate.latency_ratio, cases, reason)
    new, old = candidate[key], other[key]
    ratio = new / old
    outcome: Outcome = "pass" if ratio <= gate.latency_ratio else "fail"
    reason = (
        f"latency: {new * 1e3:.1f} ms {_PACES[key]}, {ratio:.2f} times the {against}'s {old * 1e3:.1f} ms; "
        f"at most {gate.latency_ratio:g} times is allowed."
    )
    return Check(
        LATENCY, against, "ratio at most", outcome, ratio, None, None, gate.latency_ratio, cases, 0, 0, None, None, reason
    )


def unknown(
    metric: str, against: str, rule: str, margin: float, cases: int, reason: str, *, needed: int | None = None
) -> Check:
    """A check without the evidence that it needs."""
    return Check(metric, against, rule, "unknown", None, None, None, margin, cases, 0, 0, None, needed, reason)


def _bounds(delta: Sequence[float], groups: Sequence[str], gate: GateSection, seed: int) -> Bounds:
    import numpy as np

    from budwood.stats import paired_interval

    interval = paired_interval(
        np.asarray(delta, dtype=np.float64), list(groups), resamples=gate.resamples, seed=seed, alpha=gate.alpha
    )
    return Bounds(interval.mean, max(interval.low, -1.0), min(interval.high, 1.0))


def _outcome(bounds: Bounds, limit: float, *, superior: bool) -> Outcome:
    if bounds.low > limit:
        return "pass"
    return "fail" if (bounds.high <= limit if superior else bounds.high < limit) else "unknown"


def _mcnemar(pairs: Pairs, regressed: int, fixed: int) -> float | None:
    if not regressed + fixed or not set(pairs.new) | set(pairs.old) <= {0.0, 1.0}:
        return None
    from budwood.stats import mcnemar_exact

    return mcnemar_exact(regressed, fixed)


def _cases_needed(delta: Sequence[float], bounds: Bounds, limit: float, gate: GateSection) -> int | None:
    """About how many cases would settle it, if further cases were like these; None when the mean lies on the limit."""
    from budwood.stats import cases_to_settle

    flips = sum(value != 0 for value in delta) / len(delta)
    distance = abs(bounds.mean - limit)
    if distance == 0:
        return None
    # With nothing seen on one side, the exact bound (1 - alpha ** (1/n)) has to come below the distance.
    unseen = math.ceil(math.log(gate.alpha) / math.log1p(-distance)) if distance < 1 else 1
    one_sided = all(value >= 0 for value in delta) or all(value <= 0 for value in delta)
    seen = cases_to_settle(flips, distance, alpha=gate.alpha) if flips else 0
    return max(seen, unseen if one_sided else 0, len(delta) + 1)


def _sentence(
    title: str, rule: str, outcome: Outcome, bounds: Bounds, limit: float, counts: tuple[int, int, int], needed: int | None
) -> str:
    fixed, regressed, cases = counts
    words = {
        ("superior", "pass"): "superior",
        ("superior", "fail"): "not superior",
        ("superior", "unknown"): "superiority is not shown",
        ("non-inferior", "pass"): "not worse",
        ("non-inferior", "fail"): "worse",
        ("non-inferior", "unknown"): "it may be worse",
    }[rule, outcome]
    figures = f"{bounds.mean:+.3f} [{bounds.low:+.3f}, {bounds.high:+.3f}], limit {limit:+.3f}"
    more = f" About {needed:,} cases would settle it." if needed else ""
    return f"{title}: {words} ({figures}; {fixed} better, {regressed} worse of {cases:,} cases).{more}"
