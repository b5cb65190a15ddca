"""Accuracy scorers: each has a name and a version; a report compares only with reports of the same versions.

* `exact`: equal but for white space at the ends
* `normalised`: equal after `normalise`
* `label`: the first line, normalised
* `json_exact`: equal as JSON values
* `json_fields`: share of the expected fields that are there and equal; further fields cost nothing (see `json_exact`)
* `numeric`: the last number, to one part in a million
* `chrf`, `bleu`: sacrebleu's sentence scores / 100, with the settings written out below

An answer that equals the expectation scores 1 with each, an empty one 0.
"""

import difflib
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from budwood.errors import EvaluationError
from budwood.scorers.json_answers import field_scores, parse, same

LONGEST = 20_000
"""Characters of an output that are looked at, or four times the expectation: beyond it they would take seconds for garbage."""
LONGEST_NGRAMS = 2_000
"""The same for chrF and BLEU, which are slower; at four times the expectation's length their precision is poor already."""
LONGEST_RUN = 30
"""Combining marks in a row, as in Unicode's stream-safe text (UAX 15): folding more takes quadratic time."""
_RUN = re.compile(r"(?:(?<!\w)[-+\u2212])?\d[\d,.]*+(?:[eE][-+]?\d{1,3}(?!\w))?")
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d*)?")
_PLAIN = re.compile(r"\d+(?:\.\d*)?")
LONGEST_NUMBER = 300


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
    """Fold what rarely carries meaning: compatibility forms, case, white space, and punctuation at both ends.

    Text that is nothing but punctuation keeps it, so that it never equals an empty answer.
    """
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.strip(" .,;:!?\"'`") or folded


def _exact(expected: str, output: str) -> float:
    return float(output.strip() == expected.strip())


def _normalised(expected: str, output: str) -> float:
    text = output.strip()
    if text == expected.strip():
        return 1.0
    return float(not _is_garbage(text, expected) and normalise(text) == normalise(expected))


def _label(expected: str, output: str) -> float:
    lines = output.strip().splitlines()
    return _normalised(expected, lines[0] if lines else "")


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
    wanted = last_number(expected)
    if wanted is None:
        return None
    bound = _bound(expected)
    # What the cut leaves of a number is no number.
    found = last_number(output if len(output) <= bound else output[-bound:].lstrip("0123456789.,"))
    return float(found is not None and abs(found - wanted) <= 1e-6 * max(1.0, abs(wanted)))


def last_number(text: str) -> float | None:
    """Read the last number of a text, None without one or where it cannot be told.

    "about 1,234.5 km" is 1234.5, "3-5" and "3,4,5" are 5, "-2e3" is -2000; "1.2.3" is none.
    """
    runs = _RUN.findall(text)
    if not runs or len(runs[-1]) > LONGEST_NUMBER:
        return None
    sign, digits, power = _parts(runs[-1])
    if not _GROUPED.fullmatch(digits):
        *before, digits = digits.split(",")
        sign = 1.0 if before else sign
    if not _GROUPED.fullmatch(digits) and not _PLAIN.fullmatch(digits):
        return None
    value = sign * float(f"{digits.replace(',', '')}e{power}")
    return value if math.isfinite(value) else None


def _parts(number: str) -> tuple[float, str, str]:
    """Sign, digits with their commas and dots, power of ten."""
    sign = -1.0 if number[0] in "-\u2212" else 1.0
    digits, _, power = number.lower().lstrip("+-\u2212").partition("e")
    return sign, digits.rstrip(",."), power or "0"


def _chrf(expected: str, output: str) -> float:
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF(char_order=6, word_order=0, beta=2, lowercase=False, whitespace=False, eps_smoothing=False)
    return _share(expected, output, lambda text: metric.sentence_score(text, [expected]).score)


def _bleu(expected: str, output: str) -> float:
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(lowercase=False, tokenize="13a", smooth_method="exp", max_ngram_order=4, effective_order=True)
    return _share(expected, output, lambda text: metric.sentence_score(text, [expected]).score)


def _share(expected: str, output: str, percent: Callable[[str], float]) -> float:
    """Scale to 0..1: equal text is exactly 1 (sacrebleu gives 100.00000000000004), and an empty one 0."""
    text = output.strip()
    if text == expected.strip():
        return 1.0
    cut = text[: max(LONGEST_NGRAMS, 4 * len(expected))]
    return min(1.0, max(0.0, percent(cut) / 100)) if text else 0.0


def _is_garbage(text: str, expected: str) -> bool:
    """Whether folding would be slow; no answer to a sane expectation looks like this."""
    if len(text) > _bound(expected):
        return True
    if text.isascii():
        return False
    run = 0
    for sign in text:
        run = run + 1 if unicodedata.combining(sign) else 0
        if run > LONGEST_RUN:
            return True
    return False


def _bound(expected: str) -> int:
    return max(LONGEST, 4 * len(expected))


SCORERS: Mapping[str, Scorer] = MappingProxyType(
    {
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
)
