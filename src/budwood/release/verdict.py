"""What a gate says: one verdict, the checks behind it, and under which policy."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from budwood.identity import Digest, digest_json

Decision = Literal["PROMOTE", "REJECT", "INCONCLUSIVE"]
Outcome = Literal["pass", "fail", "unknown"]
LATENCY = "latency"
EXIT_CODES: Mapping[Decision, int] = {"PROMOTE": 0, "REJECT": 1, "INCONCLUSIVE": 2}


@dataclass(frozen=True)
class Check:
    """One rule of the gate on one metric.

    Args:
        metric: "quality", "policy violations", "schema errors", "style violations" or "latency".
        against: "baseline", "champion" or "floor".
        rule: "superior", "non-inferior", "at least" or "ratio at most".
        outcome: "unknown" when the evidence allows neither answer.
        mean: mean of what was compared; differences are candidate minus the other, so that more is better.
        low: lower bound, one-sided.
        high: upper bound, one-sided.
        margin: what `low` has to stay above, as a difference (0 for superiority, -margin for non-inferiority).
        cases: cases compared.
        fixed: cases that only the candidate has right.
        regressed: cases that only the other has right.
        p: exact McNemar over those; None when the metric is not yes or no.
        cases_needed: about how many cases would settle it; None when it is settled or no number would.
        reason: one sentence.
    """

    metric: str
    against: str
    rule: str
    outcome: Outcome
    mean: float | None
    low: float | None
    high: float | None
    margin: float
    cases: int
    fixed: int
    regressed: int
    p: float | None
    cases_needed: int | None
    reason: str


@dataclass(frozen=True)
class Verdict:
    """What the gate said about one candidate.

    Args:
        verdict: PROMOTE only if every check passed; REJECT if one failed; else INCONCLUSIVE.
        reasons: a sentence for each check, the ones that decided first.
        checks: the figures behind them.
        policy_digest: over the gate's section, the primary metric and the gate's own version.
        candidate: report judged.
        baseline: report of the plain base.
        champion: report of what was live; None when nothing was.
        champion_subject: what answered in that report; promotion checks that it is still live.
        suite: digest of the suite.
        seed: of the bootstrap.
    """

    verdict: Decision
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]
    policy_digest: Digest
    candidate: Digest
    baseline: Digest
    champion: Digest | None
    champion_subject: Digest | None
    suite: str
    seed: int

    def as_body(self) -> dict[str, Any]:
        """JSON values, as a release stores them: without measured times, so that the same work has the same digest."""
        checks = [_timeless(check) for check in self.checks]
        said = {check.reason: bare.reason for check, bare in zip(self.checks, checks, strict=True)}
        reasons = [said.get(reason, reason) for reason in self.reasons]
        return asdict(self) | {"reasons": reasons, "checks": [asdict(check) for check in checks]}

    @property
    def digest(self) -> Digest:
        return digest_json(self.as_body())

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]


def _timeless(check: Check) -> Check:
    """Take measured times out: they are beside the reports, in their attestations."""
    if check.metric != LATENCY or check.outcome == "unknown":
        return check
    found = "within" if check.outcome == "pass" else "above"
    reason = f"latency: {found} {check.margin:g} times the {check.against}'s; the times lie beside the reports."
    return replace(check, mean=None, reason=reason)
