"""Two reports of one suite, case by case."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from budwood.errors import EvaluationError
from budwood.evaluate.report import Report
from budwood.identity import short
from budwood.stats import Interval, mcnemar_exact, paired_bootstrap

RIGHT = 1.0
"""A case is right when its primary score is full; discordant pairs are counted on that."""


@dataclass(frozen=True)
class Comparison:
    """Candidate against baseline on the primary metric.

    Args:
        primary: the scorer compared.
        delta: mean of candidate minus baseline, with bounds; groups are resampled whole.
        p: exact McNemar over fixed and regressed; None without discordant pairs.
        fixed: case ids that only the candidate has right.
        regressed: case ids that only the baseline has right.
        still_failing: neither.
        unchanged: both right.
        slices: slice → value → (cases, mean difference), exploratory.
    """

    primary: str
    delta: Interval
    p: float | None
    fixed: tuple[str, ...]
    regressed: tuple[str, ...]
    still_failing: tuple[str, ...]
    unchanged: tuple[str, ...]
    slices: Mapping[str, Mapping[str, tuple[int, float]]]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "unchanged": len(self.unchanged)}


def compare(candidate: Report, baseline: Report, *, primary: str, alpha: float, resamples: int, seed: int = 0) -> Comparison:
    """Compare two reports.

    Raises:
        EvaluationError: they are for different suites, scorer versions or decoding, or a score is missing.
    """
    _refuse_unlike(candidate, baseline)
    pairs = [(case, baseline.by_id[case["case_id"]]) for case in candidate.cases]
    unknown = [new["case_id"] for new, old in pairs if new["scores"].get(primary) is None or old["scores"].get(primary) is None]
    if unknown:
        raise EvaluationError(
            f"{len(unknown):,} of {len(pairs):,} cases have no {primary!r} score, first {unknown[0][:8]}.",
            where="[evaluate] primary",
            mend="Choose a scorer that applies to every case.",
        )
    deltas = [new["scores"][primary] - old["scores"][primary] for new, old in pairs]
    groups = [new["group"] for new, _ in pairs]
    kinds: dict[tuple[bool, bool], list[str]] = {(a, b): [] for a in (False, True) for b in (False, True)}
    for new, old in pairs:
        kinds[new["scores"][primary] >= RIGHT, old["scores"][primary] >= RIGHT].append(new["case_id"])
    fixed, regressed = kinds[True, False], kinds[False, True]
    return Comparison(
        primary=primary,
        delta=paired_bootstrap(deltas, groups, resamples=resamples, seed=seed, alpha=alpha),
        p=mcnemar_exact(len(regressed), len(fixed)),
        fixed=tuple(fixed),
        regressed=tuple(regressed),
        still_failing=tuple(kinds[False, False]),
        unchanged=tuple(kinds[True, True]),
        slices=_slices([new for new, _ in pairs], deltas),
    )


def _refuse_unlike(candidate: Report, baseline: Report) -> None:
    if candidate.suite != baseline.suite:
        differ = len(set(candidate.by_id) ^ set(baseline.by_id))
        raise EvaluationError(
            f"Cannot compare: the baseline report is for suite {short(baseline.suite)}, the candidate's for suite "
            f"{short(candidate.suite)} ({differ} cases differ).",
            mend="Evaluate both on one suite, then compare again.",
        )
    for name in ("scorers", "decoding"):
        one, other = dict(getattr(candidate, name)), dict(getattr(baseline, name))
        if one != other:
            raise EvaluationError(f"Cannot compare: {name} differ, {one} and {other}.", mend="Evaluate both the same way.")


def _slices(cases: Sequence[Mapping[str, Any]], deltas: Sequence[float]) -> dict[str, dict[str, tuple[int, float]]]:
    sums: dict[str, dict[str, tuple[int, float]]] = {}
    for case, delta in zip(cases, deltas, strict=True):
        for name, value in case["slices"].items():
            number, total = sums.setdefault(name, {}).get(value, (0, 0.0))
            sums[name][value] = (number + 1, total + delta)
    return {
        name: {value: (number, total / number) for value, (number, total) in sorted(values.items())}
        for name, values in sorted(sums.items())
    }
