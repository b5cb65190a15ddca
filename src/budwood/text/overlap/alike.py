"""Which of some short fixed texts a text that comes by is nearly the same as: true Jaccard of character n-grams, none missed.

A pair at least t alike shares at least t of either side's shingles. So of any order of all shingles, one of the first
n − ⌈t·n⌉ + 1 of a side's n shingles is among the other side's first: only texts that meet there are compared. The order puts
rare shingles first (prefix filtering: Chaudhuri, Ganti, Kaushik 2006; Bayardo, Ma, Srikant 2007).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from budwood.native.build import Missing
from budwood.text.overlap.units import kernels
from budwood.text.similarity import SHINGLE, jaccard, shingles

ROUNDING = 1e-9
"""Keeps t·n from being rounded up past a whole number."""


class Alike(NamedTuple):
    text: int
    similarity: float


@dataclass(frozen=True)
class AlikeIndex:
    """The index.

    Args:
        threshold: least similarity of a hit.
        shingles: of each text; empty for texts that are not looked for.
        often: shingle → number of texts that hold it.
        meeting: shingle → texts that have it among their first.
        longest: most shingles that a text can have and still be a hit; 0 where there is no text.
    """

    threshold: float
    shingles: Sequence[Set[str]]
    often: Mapping[str, int]
    meeting: Mapping[str, Sequence[int]]
    longest: int

    def find(self, text: str, *, native: bool = True) -> list[Alike]:
        """List what a normalised text is alike to, in the texts' order; `native`: with the C kernel where there is one."""
        if not text or not self.longest or self._too_long(text, native=native):
            return []
        mine = shingles(text, "characters")
        near = {place for one in first(mine, self.often, self.threshold) for place in self.meeting.get(one, ())}
        compared = ((place, jaccard(mine, self.shingles[place])) for place in sorted(near))
        return [Alike(place, similarity) for place, similarity in compared if similarity >= self.threshold]

    def _too_long(self, text: str, *, native: bool) -> bool:
        """Say, where that is soon seen, whether it has more shingles than a text that is alike."""
        if len(text) - SHINGLE < self.longest:
            return False
        library = kernels() if native else Missing("not asked for")
        if not isinstance(library, Missing) and text.isascii():
            return bool(library.overlap_passes(text.encode("ascii"), len(text), self.longest) == 1)
        return len(shingles(text[: SHINGLE + 2 * self.longest], "characters")) > self.longest


def index_alike(texts: Sequence[str], threshold: float) -> AlikeIndex:
    """Index some normalised texts; empty ones are never found."""
    held = [shingles(text, "characters") for text in texts]
    often = Counter(one for each in held for one in each)
    meeting: dict[str, list[int]] = defaultdict(list)
    for place, each in enumerate(held):
        for one in first(each, often, threshold):
            meeting[one].append(place)
    return AlikeIndex(
        threshold, held, often, dict(meeting), max((math.ceil(len(each) / threshold) for each in held), default=0)
    )


def first(of: Set[str], often: Mapping[str, int], threshold: float) -> list[str]:
    """Give as many of the rarest shingles as a text that is alike must share one of."""
    number = len(of) - math.ceil(threshold * len(of) - ROUNDING) + 1 if of else 0
    return sorted(of, key=lambda one: (often.get(one, 0), one))[:number]
