"""Near-duplicates of short fixed texts: none missed, none too many."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budwood.text.overlap.alike import index_alike
from budwood.text.similarity import jaccard, shingles

TEXTS = st.lists(st.sampled_from(["my card", "has not", "arrived", "yet", "why", "??", "card", "a"]), max_size=8).map(" ".join)


@given(st.lists(TEXTS, max_size=12), TEXTS, st.sampled_from([0.3, 0.5, 0.7, 0.8, 0.9, 1.0]))
@settings(max_examples=400, deadline=None)
def test_found_is_what_all_pairs_give(texts: list[str], text: str, threshold: float) -> None:
    mine = shingles(text, "characters")
    expected = [
        (place, jaccard(mine, shingles(other, "characters")))
        for place, other in enumerate(texts)
        if text and other and jaccard(mine, shingles(other, "characters")) >= threshold
    ]
    for native in (True, False):
        assert [tuple(one) for one in index_alike(texts, threshold).find(text, native=native)] == expected


@pytest.mark.parametrize(
    "text", ["my card " * 200, "wo ist die karte für mich " * 90, "abcdefghij" * 300, "where is my card " * 30]
)
def test_long_texts_are_no_exception(text: str) -> None:
    texts = ["my card my card my", "where is my card where is my card?", text[:2000]]
    mine = shingles(text, "characters")
    expected = [place for place, other in enumerate(texts) if jaccard(mine, shingles(other, "characters")) >= 0.7]
    for native in (True, False):
        assert [one.text for one in index_alike(texts, 0.7).find(text, native=native)] == expected
    assert expected
