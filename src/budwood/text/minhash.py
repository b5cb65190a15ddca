"""Near-duplicate search: MinHash finds candidates, true Jaccard decides.

A text becomes a signature of 128 minima; bands of it are looked up in tables (locality-sensitive hashing), and texts that
share a band are candidates. Candidates are then compared by `similarity.similarity`'s measure, so a hit is never an
estimate. What can go wrong is a miss: band sizes are chosen so that a pair at exactly the threshold is found with
probability 0.99 or more, and a pair above it more surely still.

    index = NearIndex(threshold=0.8)
    index.add(0, normalise(first))
    index.near(normalise(second))            # [Near(key=0, similarity=0.91)]

Signatures come from rensa; those of different versions of it must never be mixed, and here they never outlive the index.
"""

import math
from collections.abc import Callable, Iterator, Set
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from budwood.text.similarity import SHORT_WORDS, Kind, count_words, is_short, jaccard, shingles

if TYPE_CHECKING:
    from numpy import uint32
    from numpy.typing import NDArray

PERMUTATIONS = 128
SEED = 1
FOUND = 0.99
"""Least probability with which a pair at the threshold becomes a candidate."""
MARGIN = 1.25
"""A text up to this much longer than a short one's longest partner is also indexed by characters: words vary in length."""
CACHED_SETS = 8192
"""Shingle sets held for verification; a set of a 60-word text takes about 25 kB."""


class Near(NamedTuple):
    key: int
    similarity: float


class Bands(NamedTuple):
    number: int
    rows: int


def choose_bands(threshold: float, *, permutations: int = PERMUTATIONS, found: float = FOUND) -> Bands:
    """Take the most selective banding that still finds a pair at `threshold` with probability `found`.

    A pair of similarity s shares at least one of b bands of r minima with probability 1 − (1 − s^r)^b. More rows a band
    mean fewer false candidates and more misses.
    """
    best = Bands(permutations, 1)
    for rows in range(1, permutations + 1):
        number = permutations // rows
        if 1 - (1 - threshold**rows) ** number >= found:
            best = Bands(number, rows)
    return best


class NearIndex:
    """Texts by key, searchable for near-duplicates; grows one text at a time.

    Args:
        threshold: least Jaccard similarity of a hit, above 0 and at most 1.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._shelves: dict[Kind, _Shelf] = {"words": _Shelf(threshold), "characters": _Shelf(threshold)}
        self._shingles = lru_cache(maxsize=CACHED_SETS)(shingles)
        self._signature = lru_cache(maxsize=4)(self._sign)

    def near(self, text: str, *, wanted: Callable[[int], bool] = lambda key: True) -> list[Near]:
        """Find the texts already added that are at least `threshold` alike; ascending by key.

        Args:
            text: normalised.
            wanted: keys for which it is False are not compared; saves the comparison when the answer would not matter.
        """
        hits = {}
        for kind in self._kinds(text):
            for key, other in self._shelves[kind].candidates(self._signature(text, kind)):
                # Two long texts are compared by words, and have met on that shelf.
                if (kind == "words" or is_short(text) or is_short(other)) and wanted(key):
                    alike = self._similarity(text, other, kind)
                    if alike >= self.threshold:
                        hits[key] = Near(key, alike)
        return [hits[key] for key in sorted(hits)]

    def add(self, key: int, text: str) -> None:
        """Take in a normalised text; an empty one is never a near-duplicate of anything."""
        for kind in self._kinds(text):
            self._shelves[kind].add(key, text, self._signature(text, kind))

    def _kinds(self, text: str) -> tuple[Kind, ...]:
        words = count_words(text)
        if not words:
            return ()
        if words < SHORT_WORDS:
            return ("characters",)
        # A short text's near-duplicate has at most 1/threshold times its shingles, so longer ones need no second index.
        return ("words", "characters") if words < SHORT_WORDS / self.threshold * MARGIN else ("words",)

    def _sign(self, text: str, kind: Kind) -> "NDArray[uint32]":
        return self._shelves[kind].sign(self._shingles(text, kind))

    def _similarity(self, first: str, second: str, kind: Kind) -> float:
        ours, theirs = self._shingles(first, kind), self._shingles(second, kind)
        small, large = sorted((len(ours), len(theirs)))
        # The Jaccard similarity cannot exceed the ratio of sizes, so unequal pairs need no intersection.
        return jaccard(ours, theirs) if small >= self.threshold * large else 0.0


class _Shelf:
    """The texts that are compared by one kind of shingle: their signatures, and tables of their bands."""

    def __init__(self, threshold: float) -> None:
        import numpy
        from rensa import RMinHash

        self._numpy, self._new_sketch = numpy, RMinHash
        self._bands = choose_bands(threshold)
        # Fewer equal minima than this are four standard deviations below the threshold: 3 pairs in 100,000 are lost.
        self._least = (threshold - 4 * math.sqrt(threshold * (1 - threshold) / PERMUTATIONS)) * PERMUTATIONS
        self._members: list[tuple[int, str]] = []
        self._signatures = numpy.empty((1024, PERMUTATIONS), dtype=numpy.uint32)
        # A place, or a list of them where a band is shared: most are not, and a list each would cost more than the rest.
        self._tables: list[dict[bytes, int | list[int]]] = [{} for _ in range(self._bands.number)]

    def sign(self, found: Set[str]) -> "NDArray[uint32]":
        sketch = self._new_sketch(PERMUTATIONS, SEED)
        sketch.update(list(found))
        return self._numpy.array(sketch.digest(), dtype=self._numpy.uint32)

    def candidates(self, signature: "NDArray[uint32]") -> Iterator[tuple[int, str]]:
        places: set[int] = set()
        for table, band in zip(self._tables, self._cut(signature), strict=True):
            found = table.get(band)
            if isinstance(found, int):
                places.add(found)
            elif found is not None:
                places.update(found)
        if places:
            order = sorted(places)
            equal = (self._signatures[order] == signature).sum(axis=1)
            yield from (self._members[place] for place, count in zip(order, equal, strict=True) if count >= self._least)

    def add(self, key: int, text: str, signature: "NDArray[uint32]") -> None:
        place = len(self._members)
        if place == len(self._signatures):
            self._signatures = self._numpy.concatenate([self._signatures, self._numpy.empty_like(self._signatures)])
        self._signatures[place] = signature
        self._members.append((key, text))
        for table, band in zip(self._tables, self._cut(signature), strict=True):
            found = table.setdefault(band, place)
            if isinstance(found, list):
                found.append(place)
            elif found != place:
                table[band] = [found, place]

    def _cut(self, signature: "NDArray[uint32]") -> list[bytes]:
        data, width = signature.tobytes(), 4 * self._bands.rows
        return [data[start : start + width] for start in range(0, self._bands.number * width, width)]
