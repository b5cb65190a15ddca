"""Can two samples of prompts be told apart, by what, and what does the one hold that the other does not?"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from budwood.data.report.gather import Prompt
from budwood.stats.two_sample import TwoSample, Untestable, two_sample
from budwood.text.hashed import hashed_ngrams, term_column, words_of
from budwood.text.normalise import normalise
from budwood.text.pii import redact

LONGEST = 1_000
"""Characters of a prompt that are compared."""
TERMS = 10
APART = 6
FEWEST = 3
"""Prompts in which a term must occur to be named."""


@dataclass(frozen=True)
class Term:
    """A word, or two that follow each other: its weight, and the share of prompts of each side that hold it."""

    text: str
    weight: float
    first: float
    second: float


@dataclass(frozen=True)
class Comparison:
    """Two samples of prompts.

    Args:
        first: name of the one.
        second: name of the other.
        sizes: prompts compared, of each.
        lengths: median characters, of each.
        found: outcome of the test.
        terms: what speaks for the first, and what for the second; strongest first.
        apart: prompts of the second that look least like the first; empty where the two cannot be told apart.
    """

    first: str
    second: str
    sizes: tuple[int, int]
    lengths: tuple[float, float]
    found: TwoSample | Untestable
    terms: tuple[Sequence[Term], Sequence[Term]] = ((), ())
    apart: Sequence[str] = ()

    @property
    def sentence(self) -> str:
        """The outcome in plain words."""
        if isinstance(self.found, Untestable):
            return f"{self.second.capitalize()} and {self.first}: {self.found.reason}"
        auc, named = self.found.auc, self.second.capitalize()
        figures = f"AUC {auc.mean:.2f} [{auc.low:.2f}, {auc.high:.2f}]"
        if not self.found.differ:
            return (
                f"{named} and {self.first} cannot be told apart: {figures}. With this many prompts a difference "
                f"up to AUC {auc.high:.2f} may go unseen."
            )
        strength = "slightly" if auc.mean < 0.6 else "clearly" if auc.mean < 0.8 else "strongly"
        return f"{named} differs {strength} from {self.first}: {figures}."

    def as_dict(self) -> dict[str, Any]:
        said: dict[str, Any] = {"first": self.first, "second": self.second, "prompts": list(self.sizes), "says": self.sentence}
        if isinstance(self.found, Untestable):
            return said
        figures = {"auc": self.found.auc, "accuracy": self.found.accuracy}
        return said | {name: {"mean": one.mean, "low": one.low, "high": one.high} for name, one in figures.items()}


def compare(names: tuple[str, str], first: Iterable[Prompt], second: Iterable[Prompt]) -> Comparison:
    """Compare prompts; those that say the same are one group, also across the samples."""
    sides = (list(first), list(second))
    texts = [redact(prompt.text[:LONGEST]).text for side in sides for prompt in side]
    is_second = [place for place, side in enumerate(sides) for _ in side]
    sizes = (len(sides[0]), len(sides[1]))
    lengths = (_median([len(one.text) for one in sides[0]]), _median([len(one.text) for one in sides[1]]))
    groups = _groups([prompt for side in sides for prompt in side])
    found = two_sample(hashed_ngrams(texts), [bool(side) for side in is_second], groups, names=names)
    if isinstance(found, Untestable):
        return Comparison(*names, sizes, lengths, found)
    terms = differing_terms(texts[: sizes[0]], texts[sizes[0] :], found.weights)
    return Comparison(*names, sizes, lengths, found, terms, _apart(texts, sizes[0], found) if found.differ else ())


def differing_terms(
    first: Sequence[str], second: Sequence[str], weights: Any, most: int = TERMS
) -> tuple[list[Term], list[Term]]:
    """Name what speaks most for either side: by weight in the fit times the difference of its frequencies.

    Returns:
        Terms that are more frequent in the first, and those more frequent in the second, whose weight says the same.
    """
    counts = tuple(map(_count, (first, second)))
    named = [term for term in counts[0].keys() | counts[1].keys() if counts[0][term] + counts[1][term] >= FEWEST]
    terms = []
    for words in named:
        shares = [count[words] / max(1, len(side)) for count, side in zip(counts, (first, second), strict=True)]
        weight = float(weights[term_column(*words)])
        if weight * (shares[1] - shares[0]) > 0:
            terms.append(Term(" ".join(words), weight, *shares))
    terms.sort(key=lambda term: (-abs(term.weight * (term.second - term.first)), term.text))
    return _distinct((term for term in terms if term.weight < 0), most), _distinct(
        (term for term in terms if term.weight > 0), most
    )


def _distinct(terms: Iterable[Term], most: int) -> list[Term]:
    """Leave out what only repeats a stronger term: shares a word with it and stands in about as many prompts."""
    kept: list[Term] = []
    for term in terms:
        words, larger = set(term.text.split()), max(term.first, term.second)
        if not any(words & set(one.text.split()) and abs(max(one.first, one.second) - larger) < 0.1 * larger for one in kept):
            kept.append(term)
        if len(kept) == most:
            break
    return kept


def _count(texts: Sequence[str]) -> Counter[tuple[str, ...]]:
    """In how many texts each word, and each pair of words, occurs."""
    counts: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        words = words_of(text)
        counts.update({(word,) for word in words} | set(pairwise(words)))
    return counts


def _groups(prompts: Sequence[Prompt]) -> list[str]:
    first: dict[str, str] = {}
    return [first.setdefault(normalise(prompt.text), prompt.group) for prompt in prompts]


def _apart(texts: Sequence[str], start: int, found: TwoSample) -> list[str]:
    order = sorted(range(start, len(texts)), key=lambda place: (-found.scores[place], place))
    return list(dict.fromkeys(texts[place] for place in order[: 3 * APART]))[:APART]


def _median(values: Sequence[int]) -> float:
    import statistics

    return float(statistics.median(values)) if values else 0.0
