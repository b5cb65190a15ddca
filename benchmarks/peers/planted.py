"""Rows among which near-duplicates of known similarity are hidden, and rows without end for measuring growth."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from budwood.text.similarity import similarity

LENGTHS = {"short": (6, 25), "long": (60, 200)}
"""Words of a row."""
BANDS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)
CHUNK = 25


@dataclass(frozen=True)
class Pair:
    """Two rows of the list: `alike` is their true Jaccard similarity, by words if both are long, else by characters."""

    first: int
    second: int
    alike: float
    length: str


@dataclass(frozen=True)
class Planted:
    """Normalised texts, and the pairs among them; each text is in one pair at most, all else is unrelated."""

    texts: list[str]
    pairs: list[Pair]


def plant(rows: int, *, pairs_a_band: int, seed: int) -> Planted:
    """Make rows, and for each band and length as many pairs, each near each other and near nothing else."""
    draw = random.Random(seed)
    words = vocabulary(20_000, draw)
    made = [
        pair
        for length in LENGTHS
        for low, high in pairwise(BANDS)
        for pair in _pairs(draw, words, length, low, high, pairs_a_band)
    ]
    texts: list[str] = [text for first, second, _, _ in made for text in (first, second)]
    while len(texts) < rows:
        texts.append(_text(draw, words, draw.choice(list(LENGTHS))))
    order = list(range(len(texts)))
    draw.shuffle(order)
    place = {old: new for new, old in enumerate(order)}
    pairs = [
        Pair(min(place[2 * i], place[2 * i + 1]), max(place[2 * i], place[2 * i + 1]), alike, length)
        for i, (_, _, alike, length) in enumerate(made)
    ]
    return Planted([texts[old] for old in order], pairs)


def _pairs(
    draw: random.Random, words: list[str], length: str, low: float, high: float, wanted: int
) -> Iterator[tuple[str, str, float, str]]:
    """Change words of a text, a few more or less, until the similarity falls into the band."""
    while wanted:
        first = _text(draw, words, length).split()
        second = list(first)
        for _ in range(2 * len(first)):
            second[draw.randrange(len(second))] = draw.choice(words)
            alike = similarity(" ".join(first), " ".join(second))
            if alike < high:
                break
        if low <= alike < high:
            wanted -= 1
            yield " ".join(first), " ".join(second), alike, length


def _text(draw: random.Random, words: list[str], length: str) -> str:
    return " ".join(draw.choices(words, k=draw.randint(*LENGTHS[length])))


def vocabulary(size: int, draw: random.Random) -> list[str]:
    """Make words of two to four syllables."""
    syllables = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "en", "ar")]
    found: dict[str, None] = {}
    while len(found) < size:
        found["".join(draw.choices(syllables, k=draw.randint(2, 4)))] = None
    return list(found)


class Endless:
    """Rows by number, of about 100 words, made when they are asked for: every tenth is an earlier one with a word changed."""

    def __init__(self, *, seed: int) -> None:
        draw = random.Random(seed)
        words = vocabulary(20_000, draw)
        self._chunks = [" ".join(draw.choices(words, k=CHUNK)) for _ in range(50_000)]

    def __getitem__(self, number: int) -> str:
        if number % 10 == 9:
            return f"{self._whole(number - 7)} again"
        return self._whole(number)

    def _whole(self, number: int) -> str:
        # Chunks by a mixed counter, and the number itself, so that no row is another one's exact duplicate.
        mixed = number * 0x9E3779B97F4A7C15 % 2**64
        return " ".join([f"row{number}", *(self._chunks[(mixed >> shift) % len(self._chunks)] for shift in (0, 16, 29, 41))])
