"""Signatures: the C kernel and numpy give the same numbers, and these estimate Jaccard without bias."""

import random
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budwood.native.build import Missing
from budwood.text.near.kernels import kernels
from budwood.text.near.pack import BATCH_TEXTS, batches, pack_texts
from budwood.text.near.scheme import PERMUTATIONS, make_scheme
from budwood.text.near.sign import CHARACTERS, WORDS, _minima, shingle_hashes, sign_pack
from budwood.text.ngrams import char_ngrams, word_ngrams
from budwood.text.normalise import normalise

WORD = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=6)
TEXT = st.lists(WORD, max_size=90).map(" ".join)


@pytest.fixture
def native() -> None:
    found = kernels()
    if isinstance(found, Missing):
        pytest.skip(f"no C kernels on this machine: {found.reason}")


@pytest.mark.usefixtures("native")
@given(st.lists(TEXT | TEXT.map(normalise), max_size=6), st.sampled_from([0.3, 0.8, 1.0]))
@settings(max_examples=80, deadline=None)
def test_kernel_and_numpy_give_the_same_numbers(texts: list[str], threshold: float) -> None:
    pack, scheme = pack_texts(texts, threshold), make_scheme(threshold)
    pairs: list[tuple[Any, Any]] = list(zip(sign_pack(pack, scheme), sign_pack(pack, scheme, native=False), strict=True))
    for ours, theirs in pairs:
        assert ours.dtype == theirs.dtype
        assert (ours == theirs).all()


@given(st.lists(TEXT.map(normalise), max_size=6))
@settings(max_examples=60, deadline=None)
def test_shingles_are_the_ngrams_of_the_text(texts: list[str]) -> None:
    pack = pack_texts(texts, 0.8)
    for kind, ngrams in ((WORDS, word_ngrams), (CHARACTERS, char_ngrams)):
        hashes, starts = shingle_hashes(pack, kind)
        for i, text in enumerate(texts):
            assert len(set(hashes[starts[i] : starts[i + 1]].tolist())) == len(ngrams(text, 5))


@pytest.mark.parametrize("similarity", [0.2, 0.5, 0.8, 0.95])
def test_the_share_of_equal_minima_estimates_jaccard_without_bias(similarity: float) -> None:
    draw = random.Random(5)
    pairs, size = 300, 200
    shared = round(2 * size * similarity / (1 + similarity))
    true = shared / (2 * size - shared)
    equal = []
    for _ in range(pairs):
        # A text of one word has that word as its only shingle, so the least over many such texts is the minimum of a set.
        words = [f"{draw.getrandbits(40):x}" for _ in range(2 * size - shared)]
        minima = _minima(pack_texts(words, 0.8), numpy.arange(len(words)), WORDS)
        equal.append((minima[:size].min(axis=0) == minima[-size:].min(axis=0)).mean())
    deviation = (true * (1 - true) / PERMUTATIONS) ** 0.5
    # Four standard deviations of the mean; and no wider spread than independent permutations have.
    assert abs(numpy.mean(equal) - true) < 4 * deviation / pairs**0.5
    assert numpy.std(equal) < 1.2 * deviation


def test_a_stream_is_cut_by_number_and_by_size() -> None:
    assert [len(batch) for batch in batches(["a"] * (BATCH_TEXTS + 1))] == [BATCH_TEXTS, 1]
    assert [len(batch) for batch in batches(["x" * 3_000_000] * 5)] == [2, 2, 1]
    assert list(batches([])) == []
