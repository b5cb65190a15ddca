"""Normalised forms, n-grams, Jaccard, and the search that must find what a look at all pairs finds."""

import random

import pytest

from budwood.text.minhash import NearIndex, choose_bands
from budwood.text.ngrams import char_ngrams, word_ngrams
from budwood.text.normalise import normalise
from budwood.text.similarity import SHORT_WORDS, similarity

WORDS = [
    f"{stem}{ending}" for stem in ("or", "pay", "ship", "light", "kettle", "re") for ending in ("", "s", "ing", "ed", "er")
]


def test_normalise_folds_case_width_and_white_space() -> None:
    assert normalise("  Ｈéllo\u00a0\tWORLD\n") == "héllo world"


def test_ngrams_of_a_short_text_are_the_text() -> None:
    assert word_ngrams("two words", 5) == {"two words"}
    assert char_ngrams("abc", 5) == {"abc"}
    assert word_ngrams("a b c d e f", 5) == {"a b c d e", "b c d e f"}
    assert word_ngrams("", 5) == char_ngrams("", 5) == frozenset()


def test_similarity_is_jaccard_of_character_shingles_for_short_texts() -> None:
    first, second = "where is my order", "where is my orders"
    ours = {first[i : i + 5] for i in range(len(first) - 4)}
    theirs = {second[i : i + 5] for i in range(len(second) - 4)}
    assert similarity(first, second) == len(ours & theirs) / len(ours | theirs)


def test_long_texts_are_compared_by_words() -> None:
    words = [f"w{i}" for i in range(SHORT_WORDS + 10)]
    changed = [*words[:30], "other", *words[31:]]
    shingles = len(words) - 4
    assert similarity(" ".join(words), " ".join(changed)) == (shingles - 5) / (shingles + 5)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95])
def test_bands_find_a_pair_at_the_threshold(threshold: float) -> None:
    bands = choose_bands(threshold)
    assert bands.number * bands.rows <= 128
    assert 1 - (1 - threshold**bands.rows) ** bands.number >= 0.99
    more = bands.rows + 1
    assert 1 - (1 - threshold**more) ** (128 // more) < 0.99


def test_search_finds_what_a_look_at_all_pairs_finds() -> None:
    draw = random.Random(3)
    texts = [" ".join(draw.choices(WORDS, k=draw.choice([3, 8, 20, 47, 52, 58, 90]))) for _ in range(150)]
    for text in texts[:120]:
        words = text.split(" ")
        words[draw.randrange(len(words))] = draw.choice(WORDS)
        texts.append(" ".join([*words, *draw.choices(WORDS, k=draw.randint(0, 3))]))
    expected = {(i, j) for j in range(len(texts)) for i in range(j) if similarity(texts[i], texts[j]) >= 0.8}
    index = NearIndex(0.8)
    found = set()
    for j, text in enumerate(texts):
        for hit in index.near(text):
            assert hit.similarity == similarity(texts[hit.key], text)
            found.add((hit.key, j))
        index.add(j, text)
    assert found <= expected
    # Each pair is found with probability 0.99 or more, most of them (far above the threshold) for certain.
    assert len(expected) > 40
    assert len(expected - found) <= 0.02 * len(expected)


def test_unwanted_keys_are_not_compared() -> None:
    index = NearIndex(0.8)
    index.add(0, "where is my order")
    assert index.near("where is my order", wanted=lambda key: False) == []


def test_an_empty_text_is_near_nothing() -> None:
    index = NearIndex(0.8)
    index.add(0, "")
    assert index.near("") == []
