"""How many minima make a band, and how alike sketches must be, so that a pair at the threshold is found."""

import math
from dataclasses import dataclass
from typing import NamedTuple

PERMUTATIONS = 128
FOUND = 0.998
"""Least probability with which a pair at the threshold is compared. At 0.99 one of BANKING77's 250 pairs was missed."""
SIEVED = 1e-4
"""Of that, the share of such pairs that their sketches may keep apart."""


class Bands(NamedTuple):
    number: int
    rows: int


@dataclass(frozen=True)
class Scheme:
    """What follows from a threshold.

    Args:
        threshold: least Jaccard similarity of a hit, above 0 and at most 1.
        bands: how the minima are cut into keys.
        least_equal: bits of 128 in which two sketches must agree for their texts to be compared.
    """

    threshold: float
    bands: Bands
    least_equal: int


def make_scheme(threshold: float) -> Scheme:
    return Scheme(threshold, choose_bands(threshold), _least_equal(threshold))


def choose_bands(threshold: float, *, permutations: int = PERMUTATIONS, found: float = FOUND / (1 - SIEVED)) -> Bands:
    """Take the most selective banding that still finds a pair at `threshold` with probability `found`, and no band more.

    A pair of similarity s shares at least one of b bands of r minima with probability 1 − (1 − s^r)^b. More rows a band
    mean fewer false candidates and more misses. Below a threshold of 0.04 no banding is enough: then every minimum is a band.
    """
    best = Bands(permutations, 1)
    for rows in range(1, permutations + 1):
        number = next((n for n in range(1, permutations // rows + 1) if 1 - (1 - threshold**rows) ** n >= found), None)
        if number is not None:
            best = Bands(number, rows)
    return best


def _least_equal(threshold: float) -> int:
    """Find how many bits agree at least, but for `SIEVED` of the pairs: a bit agrees with probability (1 + s) / 2."""
    agree = (1 + threshold) / 2
    below = 0.0
    for equal in range(PERMUTATIONS + 1):
        below += math.comb(PERMUTATIONS, equal) * agree**equal * (1 - agree) ** (PERMUTATIONS - equal)
        if below > SIEVED:
            return equal
    return PERMUTATIONS
