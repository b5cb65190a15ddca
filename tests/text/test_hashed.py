"""Hashed n-grams: which columns a text fills, and that blocks make no difference."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from budwood.text import hashed
from budwood.text.hashed import hashed_ngrams, term_column, words_of


def test_words_and_pairs_are_where_they_are_said_to_be() -> None:
    matrix = hashed_ngrams(["My card is lost!", "my card was stolen", "something else entirely"]).toarray()
    assert words_of("My card, lost!") == ["my", "card", ",", "lost", "!"]
    for words in (("my",), ("card",), ("my", "card")):
        assert (matrix[:2, term_column(*words)] > 0).all()
        assert matrix[2, term_column(*words)] == 0
    # "lost" stands in one text alone: it says nothing of the others.
    assert matrix[0, term_column("lost")] == 0


def test_the_same_words_in_another_order_share_words_and_no_pair() -> None:
    matrix = hashed_ngrams(["alpha beta", "beta alpha", "beta alpha", "alpha beta"]).toarray()
    assert matrix[0, term_column("alpha", "beta")] > 0
    assert matrix[1, term_column("alpha", "beta")] == 0
    assert matrix[1, term_column("beta", "alpha")] > 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=12))
def test_rows_have_length_one_or_nothing_and_blocks_change_nothing(texts: list[str]) -> None:
    whole = hashed_ngrams(texts)
    assert whole.shape == (len(texts), hashed.COLUMNS)
    lengths = np.sqrt(whole.multiply(whole).sum(axis=1)) if texts else np.zeros(0)
    assert all(abs(length - 1) < 1e-9 or length == 0 for length in np.asarray(lengths).ravel())
    before = hashed.BLOCK
    try:
        hashed.BLOCK = 3
        assert abs(hashed_ngrams(texts) - whole).sum() < 1e-9
    finally:
        hashed.BLOCK = before
