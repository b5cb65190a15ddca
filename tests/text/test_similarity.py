"""Normalised forms, n-grams, Jaccard."""

from budwood.text.ngrams import char_ngrams, word_ngrams
from budwood.text.normalise import normalise
from budwood.text.similarity import SHORT_WORDS, similarity


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
