"""Near-duplicate search: MinHash finds candidates, true Jaccard decides.

A text becomes a signature of 128 minima; bands of it are looked up in tables (locality-sensitive hashing), and texts that
share a band are candidates. Candidates are then compared by `similarity.similarity`'s measure, so a hit is never an
estimate. What can go wrong is a miss: band sizes are chosen so that a pair at exactly the threshold is found with
probability 0.99 or more, and a pair above it more surely still.

    index = NearIndex(threshold=0.8)
    index.add(0, normalise(first))
    index.near(normalise(second))            # [Near(key=0, similarity=0.91)]

Signatures come from rensa (its algorithm version is in `SIGNATURE`); those of different versions must never be mixed,
and here they never outlive the index.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from budwood.text.similarity import SHORT_WORDS, Kind, count_words, is_short, jaccard, shingles

PERMUTATIONS = 128
SEED = 1
SIGNATURE = "rensa-r-minhash"
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
        from rensa import RMinHash

        self.threshold = threshold
        self._new_sketch = RMinHash
        self.bands = choose_bands(threshold)
        self._texts: dict[int, str] = {}
        self._tables: dict[Kind, list[dict[tuple[int, ...], list[int]]]] = {
            "words": [{} for _ in range(self.bands.number)],
            "characters": [{} for _ in range(self.bands.number)],
        }
        self._set = lru_cache(maxsize=CACHED_SETS)(shingles)
        self._signature = lru_cache(maxsize=4)(self._sign)

    def near(self, text: str, *, wanted: Callable[[int], bool] = lambda key: True) -> list[Near]:
        """Find the texts already added that are at least `threshold` alike; ascending by key.

        Args:
            text: normalised.
            wanted: keys for which it is False are not compared; saves the comparison when the answer would not matter.
        """
        candidates: set[int] = set()
        for kind in self._kinds(text):
            for table, band in zip(self._tables[kind], self._signature(text, kind), strict=True):
                candidates.update(table.get(band, ()))
        hits = []
        for key in sorted(candidates):
            if wanted(key):
                alike = self._similarity(text, self._texts[key])
                if alike >= self.threshold:
                    hits.append(Near(key, alike))
        return hits

    def add(self, key: int, text: str) -> None:
        """Take in a normalised text; an empty one is never a near-duplicate of anything."""
        self._texts[key] = text
        for kind in self._kinds(text):
            for table, band in zip(self._tables[kind], self._signature(text, kind), strict=True):
                table.setdefault(band, []).append(key)

    def _kinds(self, text: str) -> tuple[Kind, ...]:
        words = count_words(text)
        if not words:
            return ()
        if words < SHORT_WORDS:
            return ("characters",)
        # A short text's near-duplicate has at most 1/threshold times its shingles, so longer ones need no second index.
        return ("words", "characters") if words < SHORT_WORDS / self.threshold * MARGIN else ("words",)

    def _sign(self, text: str, kind: Kind) -> list[tuple[int, ...]]:
        sketch = self._new_sketch(PERMUTATIONS, SEED)
        sketch.update(list(self._set(text, kind)))
        minima = sketch.digest()
        rows = self.bands.rows
        return [tuple(minima[start : start + rows]) for start in range(0, self.bands.number * rows, rows)]

    def _similarity(self, first: str, second: str) -> float:
        kind: Kind = "characters" if is_short(first) or is_short(second) else "words"
        ours, theirs = self._set(first, kind), self._set(second, kind)
        small, large = sorted((len(ours), len(theirs)))
        # The Jaccard similarity cannot exceed the ratio of sizes, so unequal pairs need no intersection.
        return jaccard(ours, theirs) if small >= self.threshold * large else 0.0
