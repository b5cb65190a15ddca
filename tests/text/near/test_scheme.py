"""Bands and sketches: the probability that is promised is the one that the choice has."""

import math

import pytest

from budwood.text.near.scheme import FOUND, PERMUTATIONS, choose_bands, make_scheme


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_a_pair_at_the_threshold_is_found(threshold: float) -> None:
    scheme = make_scheme(threshold)
    number, rows = scheme.bands
    assert number * rows <= PERMUTATIONS
    agree = (1 + threshold) / 2
    sieved = sum(math.comb(PERMUTATIONS, k) * agree**k * (1 - agree) ** (PERMUTATIONS - k) for k in range(scheme.least_equal))
    assert (1 - (1 - threshold**rows) ** number) * (1 - sieved) >= FOUND


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_no_fewer_bands_and_no_more_selective_ones_would_do(threshold: float) -> None:
    number, rows = choose_bands(threshold, found=0.99)
    assert 1 - (1 - threshold**rows) ** (number - 1) < 0.99
    assert 1 - (1 - threshold ** (rows + 1)) ** (PERMUTATIONS // (rows + 1)) < 0.99


def test_below_all_bandings_every_minimum_is_a_band() -> None:
    assert choose_bands(0.01) == (PERMUTATIONS, 1)
