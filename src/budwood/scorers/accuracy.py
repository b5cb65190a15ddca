"""Accuracy scorers: each has a name and a version; a report compares only with reports of the same versions."""

import difflib
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from budwood.errors import EvaluationError
from budwood.scorers.json_answers import field_scores, parse, same

LONGEST = 100_000
"""Characters of an output that the n-gram metrics look at; beyond it they would take seconds for garbage."""
_NUMBER = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?|[-+]?\d{1,300}(?:\.\d{1,300})?")


@dataclass(frozen=True)
class Scorer:
    """A way to score one answer.

    `score(expected, output)` gives 0 to 1, or None where the scorer does not apply (an expectation that is no JSON or has no
    number).
    """

    name: str
    version: int
    score: Callable[[str, str], float | None]


def scorer_named(name: str) -> Scorer:
    """Find a scorer.

    Raises:
        EvaluationError: there is none; the nearest name is given.
    """
    if name not in SCORERS:
        near = difflib.get_close_matches(name, SCORERS, n=1)
        hint = f" Nearest: {near[0]}." if near else ""
        raise EvaluationError(
            f"There is no scorer {name!r}.{hint}", where="[evaluate]", mend=f"Known scorers: {', '.join(SCORERS)}."
        )
    return SCORERS[name]


def normalise(text: str) -> str:
    """Fold what rarely carries meaning: compatibility forms, case, white space, and punctuation at both ends."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split()).strip(" .,;:!?\"'`")


def _exact(expected: str, output: str) -> float:
    return float(output.strip() == expected.strip())


def _normalised(expected: str, output: str) -> float:
    return float(normalise(output) == normalise(expected))


def _json_exact(expected: str, output: str) -> float | None:
    wanted = parse(expected)
    if wanted is None:
        return None
    found = parse(output)
    return float(found is not None and same(found.value, wanted.value))


def _json_fields(expected: str, output: str) -> float | None:
    fields = field_scores(expected, output)
    return None if not fields else sum(fields.values()) / len(fields)


def _numeric(expected: str, output: str) -> float | None:
    wanted = _last_number(expected)
    if wanted is None:
        return None
    found = _last_number(output[-LONGEST:])
    return float(found is not None and abs(found - wanted) <= 1e-6 * max(1.0, abs(wanted)))


def _last_number(text: str) -> float | None:
    numbers = _NUMBER.findall(text)
    return float(numbers[-1].replace(",", "")) if numbers else None


def _chrf(expected: str, output: str) -> float:
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().sentence_score(output[:LONGEST], [expected[:LONGEST]]).score) / 100


def _bleu(expected: str, output: str) -> float:
    from sacrebleu.metrics.bleu import BLEU

    return float(BLEU(effective_order=True).sentence_score(output[:LONGEST], [expected[:LONGEST]]).score) / 100


def _label(expected: str, output: str) -> float:
    first = output.strip().splitlines()[0] if output.strip() else ""
    return float(normalise(first) == normalise(expected))


SCORERS: Mapping[str, Scorer] = {
    scorer.name: scorer
    for scorer in (
        Scorer("exact", 1, _exact),
        Scorer("normalised", 1, _normalised),
        Scorer("label", 1, _label),
        Scorer("json_exact", 1, _json_exact),
        Scorer("json_fields", 1, _json_fields),
        Scorer("numeric", 1, _numeric),
        Scorer("chrf", 1, _chrf),
        Scorer("bleu", 1, _bleu),
    )
}
"""exact: equal but for white space at the ends · normalised: equal after `normalise` · label: the first line, normalised ·
json_exact: equal as JSON · json_fields: share of the expected fields that are equal · numeric: the last number, to one part in
a million · chrf, bleu: sacrebleu's sentence scores / 100."""
