"""Does what a release on trial has done break a limit? Counts in, findings out; nothing is moved here.

A limit is broken when the interval of what was seen lies wholly beyond it, kept when it lies wholly within; else the matter is
open, and nothing happens. So one error of two proves nothing, and neither does silence.

Counts are looked at every few seconds while they grow, and each look is a chance to be wrong. With alpha = 0.001, a release
whose true rate is exactly at the limit is taken back wrongly in a few of a hundred trials; one that is well within it, hardly
ever (tests/release/test_policy.py plays this).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from budwood.recipe import CanarySection
from budwood.stats import exact_interval, rise_interval
from budwood.stats.outcomes import Outcomes

Outcome = Literal["broken", "kept", "open"]
TAIL = 0.95


@dataclass(frozen=True)
class Finding:
    """One limit, and what the counts say of it in a sentence with its figures."""

    limit: str
    outcome: Outcome
    says: str


@dataclass(frozen=True)
class Judgement:
    findings: tuple[Finding, ...]

    @property
    def outcome(self) -> Outcome:
        """Some limit is broken; all are kept; or it cannot be told yet."""
        outcomes = {finding.outcome for finding in self.findings}
        return "broken" if "broken" in outcomes else "open" if "open" in outcomes else "kept"

    @property
    def sentence(self) -> str:
        """What decides: the broken limits, else the open ones."""
        said = [finding.says for finding in self.findings if finding.outcome == self.outcome]
        return "; ".join(said) if self.outcome != "kept" else "every limit is kept" if self.findings else "there is no limit"

    def as_dict(self) -> dict[str, Any]:
        return {"outcome": self.outcome, "says": self.sentence, "findings": [asdict(finding) for finding in self.findings]}


def judge(policy: CanarySection, trial: Outcomes, stable: Outcomes) -> Judgement:
    """Hold the counts of a window against the limits.

    Args:
        policy: the limits.
        trial: of the release that is tried.
        stable: of the one that it is tried against, in the same time; comparisons are open while there are none.
    """
    if trial.requests < policy.min_requests:
        says = f"{trial.requests:,} of {policy.min_requests:,} requests seen"
        return Judgement((Finding("min_requests", "open", says),))
    findings: list[Finding] = []
    errors, schema = (trial.errors, trial.requests), (trial.schema_errors, trial.schema_answers)
    stable_errors, stable_schema = (stable.errors, stable.requests), (stable.schema_errors, stable.schema_answers)
    findings += _rate("max_error_rate", "errors", policy.max_error_rate, errors, policy.alpha)
    findings += _rise("max_error_rise", "errors", policy.max_error_rise, stable_errors, errors, policy.alpha)
    if trial.schema_answers:
        findings += _rate("max_schema_error_rate", "schema errors", policy.max_schema_error_rate, schema, policy.alpha)
        rise = policy.max_schema_error_rise
        findings += _rise("max_schema_error_rise", "schema errors", rise, stable_schema, schema, policy.alpha)
    findings += _latency(policy, trial)
    findings += _latency_ratio(policy, trial, stable)
    return Judgement(tuple(findings))


def _rate(limit: str, what: str, most: float, seen: tuple[int, int], alpha: float) -> Sequence[Finding]:
    if most >= 1:
        return ()
    low, high = exact_interval(*seen, alpha)
    says = f"{what} {_share(seen)} [{low:.2%}, {high:.2%}], limit {most:.2%}"
    return (Finding(limit, _outcome(low, high, most), says),)


def _rise(
    limit: str, what: str, most: float, before: tuple[int, int], after: tuple[int, int], alpha: float
) -> Sequence[Finding]:
    if most >= 1:
        return ()
    low, high = rise_interval(before, after, alpha)
    says = f"{what} {_share(after)} against {_share(before)}: rise [{low:+.2%}, {high:+.2%}], limit {most:+.2%}"
    return (Finding(limit, _outcome(low, high, most), says),)


def _latency(policy: CanarySection, trial: Outcomes) -> Sequence[Finding]:
    most = policy.max_latency_p95_s
    if not most:
        return ()
    low, high = trial.quantile_bounds(TAIL, policy.alpha)
    says = f"latency p95 {trial.quantile(TAIL):.3g} s {_seconds(low, high)}, limit {most:.3g} s"
    return (Finding("max_latency_p95_s", _outcome(low, high, most), says),)


def _latency_ratio(policy: CanarySection, trial: Outcomes, stable: Outcomes) -> Sequence[Finding]:
    most = policy.max_latency_ratio
    if not most:
        return ()
    # Two intervals are put together: half of the error each.
    low, high = trial.quantile_bounds(TAIL, policy.alpha / 2)
    stable_low, stable_high = stable.quantile_bounds(TAIL, policy.alpha / 2)
    at_least = low / stable_high if stable_high < math.inf else 0.0
    at_most = high / stable_low if stable_low > 0 else math.inf
    says = (
        f"latency p95 {trial.quantile(TAIL):.3g} s against {stable.quantile(TAIL):.3g} s: "
        f"ratio [{at_least:.2f}, {_number(at_most)}], limit {most:g}"
    )
    return (Finding("max_latency_ratio", _outcome(at_least, at_most, most), says),)


def _outcome(low: float, high: float, most: float) -> Outcome:
    return "broken" if low > most else "kept" if high <= most else "open"


def _share(seen: tuple[int, int]) -> str:
    return f"{seen[0]:,} of {seen[1]:,}"


def _seconds(low: float, high: float) -> str:
    return f"[{low:.3g}, {_number(high)}]"


def _number(value: float) -> str:
    return f"{value:.3g}" if value < math.inf else "∞"
