"""What every part of the page reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from budwood.evaluate.compare import Comparison
from budwood.evaluate.report import Report
from budwood.evaluate.summary import higher_is_better


@dataclass(frozen=True)
class Facts:
    """One candidate, what it is compared with, and what was decided.

    Args:
        name: of the releases.
        candidate: its report.
        others: "base" and, where there is one, "champion" → report; compared with in this order.
        comparisons: the same names → comparison.
        verdict: PROMOTE, REJECT or INCONCLUSIVE; "" when there is none yet.
        reasons: a sentence for each check of the gate.
    """

    name: str
    candidate: Report
    others: Mapping[str, Report]
    comparisons: Mapping[str, Comparison]
    verdict: str
    reasons: Sequence[str]

    @property
    def primary(self) -> str:
        return self.comparisons["base"].primary

    def better(self, metric: str, against: str) -> bool | None:
        """Whether the candidate's metric is better (True), worse (False), or neither beyond doubt."""
        delta = self.comparisons[against].deltas[metric]
        up = higher_is_better(metric, self.candidate.scorers)
        if delta.low > 0:
            return up
        return not up if delta.high < 0 else None
