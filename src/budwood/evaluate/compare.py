"""Two reports of one suite, case by case."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from budwood.errors import EvaluationError
from budwood.evaluate.report import Report
from budwood.evaluate.summary import case_values
from budwood.identity import short
from budwood.stats import Interval, mcnemar_exact, paired_interval

RIGHT = 1.0
"""A case is right when its primary score is full."""
Record = Mapping[str, Any]
Pair = tuple[Record, Record]


@dataclass(frozen=True)
class Comparison:
    """Candidate against baseline, paired by case.

    Where the primary score is right or wrong, `fixed` and `regressed` are the discordant pairs. Where it has values between
    (chrF, shares of fields), they are the cases whose score rose or fell.

    Args:
        primary: the scorer compared.
        delta: mean of candidate minus baseline, with bounds each one-sided at `alpha`; groups are resampled whole and what was
            not seen is counted in (`stats.paired_interval`).
        p: exact McNemar over fixed and regressed; None without discordant pairs, or when scores lie between right and wrong.
        binary: whether every primary score is 0 or 1.
        fixed: case ids; likewise the next three.
        regressed: see above.
        still_failing: not right on either side, and neither better nor worse.
        unchanged: right on both sides.
        unknown: a side has no score; they are in no other list and not in `delta`.
        deltas: every metric of both reports → its mean difference with bounds. Apart from the primary one they are exploratory:
            with so many, one outside its bounds by chance is to be expected.
        slices: slice → value → (cases, mean difference of the primary score), exploratory.
        alpha: error of each bound.
        resamples: bootstrap draws.
        seed: of the draws.
    """

    primary: str
    delta: Interval
    p: float | None
    binary: bool
    fixed: tuple[str, ...]
    regressed: tuple[str, ...]
    still_failing: tuple[str, ...]
    unchanged: tuple[str, ...]
    unknown: tuple[str, ...]
    deltas: Mapping[str, Interval]
    slices: Mapping[str, Mapping[str, tuple[int, float]]]
    alpha: float
    resamples: int
    seed: int

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "unchanged": len(self.unchanged)}


def compare(candidate: Report, baseline: Report, *, primary: str, alpha: float, resamples: int, seed: int = 0) -> Comparison:
    """Compare two reports.

    Raises:
        EvaluationError: they are for different suites, scorer versions or decoding, or no case has a primary score.
    """
    _refuse_unlike(candidate, baseline)
    pairs = [(case, baseline.by_id[case["case_id"]]) for case in candidate.cases]
    known = [pair for pair in pairs if _is_known(pair, primary)]
    if not known:
        raise EvaluationError(
            f"None of {len(pairs):,} cases has a {primary!r} score on both sides.",
            where="[evaluate] primary",
            mend=f"Scorers of these reports: {', '.join(candidate.scorers)}.",
        )
    binary = all(case["scores"][primary] in (0.0, 1.0) for pair in known for case in pair)
    lists = _sorted_out(known, primary)
    deltas = _deltas(pairs, alpha=alpha, resamples=resamples, seed=seed)
    return Comparison(
        primary=primary,
        delta=deltas[primary],
        p=mcnemar_exact(len(lists["regressed"]), len(lists["fixed"])) if binary else None,
        binary=binary,
        fixed=tuple(lists["fixed"]),
        regressed=tuple(lists["regressed"]),
        still_failing=tuple(lists["still_failing"]),
        unchanged=tuple(lists["unchanged"]),
        unknown=tuple(new["case_id"] for new, old in pairs if not _is_known((new, old), primary)),
        deltas=deltas,
        slices=_slices(known, primary),
        alpha=alpha,
        resamples=resamples,
        seed=seed,
    )


def _refuse_unlike(candidate: Report, baseline: Report) -> None:
    again = "Evaluate both the same way (`budwood evaluate`), then compare again."
    differ = len(candidate.by_id.keys() ^ baseline.by_id.keys())
    if candidate.suite != baseline.suite or differ:
        raise EvaluationError(
            f"Cannot compare: the baseline report is for suite {short(baseline.suite)}…, the candidate's for suite "
            f"{short(candidate.suite)}… ({differ:,} cases differ).",
            mend=again,
        )
    for name in ("scorers", "decoding"):
        one, other = dict(getattr(candidate, name)), dict(getattr(baseline, name))
        if one != other:
            raise EvaluationError(f"Cannot compare: {name} of the baseline are {other}, of the candidate {one}.", mend=again)


def _is_known(pair: Pair, primary: str) -> bool:
    return all(case["scores"].get(primary) is not None for case in pair)


def _sorted_out(pairs: Sequence[Pair], primary: str) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {name: [] for name in ("fixed", "regressed", "still_failing", "unchanged")}
    for new, old in pairs:
        now, before = new["scores"][primary], old["scores"][primary]
        same = "unchanged" if now >= RIGHT else "still_failing"
        lists["fixed" if now > before else "regressed" if now < before else same].append(new["case_id"])
    return lists


def _deltas(pairs: Sequence[Pair], *, alpha: float, resamples: int, seed: int) -> dict[str, Interval]:
    values = [(case_values(new), case_values(old), str(new["group"])) for new, old in pairs]
    found: dict[str, Interval] = {}
    for metric in values[0][0]:
        both = [(new[metric], old[metric], group) for new, old, group in values]
        known = [(new - old, group) for new, old, group in both if new is not None and old is not None]
        if known:
            differences, groups = zip(*known, strict=True)
            found[metric] = paired_interval(differences, groups, resamples=resamples, seed=seed, alpha=alpha)
    return found


def _slices(pairs: Sequence[Pair], primary: str) -> dict[str, dict[str, tuple[int, float]]]:
    sums: dict[str, dict[str, tuple[int, float]]] = {}
    for new, old in pairs:
        delta = new["scores"][primary] - old["scores"][primary]
        for name, value in new["slices"].items():
            number, total = sums.setdefault(name, {}).get(value, (0, 0.0))
            sums[name][value] = (number + 1, total + delta)
    return {
        name: {value: (number, total / number) for value, (number, total) in sorted(values.items())}
        for name, values in sorted(sums.items())
    }
