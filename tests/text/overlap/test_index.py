"""What is shared is what a plain search finds, in C and in Python; boilerplate counts for nothing."""

import re
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budwood.native.build import Missing
from budwood.text.normalise import normalise
from budwood.text.overlap import index as index_module
from budwood.text.overlap.index import LONG, SHORT, Shared, index_texts
from budwood.text.overlap.units import hash_units, kernels, split

WORDS = st.sampled_from(["pay", "ship", "kettle", "red", "order", "now", "late", "zürich", "東", "é"])
TEXTS = st.lists(WORDS, max_size=60).map(" ".join)


class Plain(NamedTuple):
    """The oracle: strings, sets and loops."""

    texts: list[str]

    def shared(self, parts: list[str]) -> list[Shared]:
        shorts = {gram for part in parts for gram in grams(part, SHORT)}
        longs = {gram for part in parts for gram in grams(part, LONG)}
        found = []
        for number, text in enumerate(self.texts):
            units = plain_units(text)
            counts = {n: self.often(n) for n in (SHORT, LONG)}
            countable, covered = set(), set()
            if len(units) >= SHORT:
                for place, gram in enumerate(grams(text, SHORT)):
                    if counts[SHORT].get(gram, 0) <= self.most(SHORT):
                        countable |= set(range(place, place + SHORT))
                        covered |= set(range(place, place + SHORT)) if gram in shorts else set()
            run = any(gram in longs and counts[LONG][gram] <= self.most(LONG) for gram in grams(text, LONG))
            if covered or run:
                found.append(Shared(number, len(covered), len(countable), run))
        return found

    def often(self, n: int) -> dict[tuple[str, ...], int]:
        counts: dict[tuple[str, ...], int] = {}
        for text in dict.fromkeys(self.texts):
            for gram in set(grams(text, n)) if len(plain_units(text)) >= n else ():
                counts[gram] = counts.get(gram, 0) + 1
        return counts

    def most(self, least: int) -> float:
        number = sum(len(plain_units(text)) >= least for text in dict.fromkeys(self.texts))
        return min(10, max(3, 0.1 * number))


def plain_units(text: str) -> list[str]:
    return re.findall(r"[一-鿿]|[^\W_一-鿿]+", text)


def grams(text: str, n: int) -> list[tuple[str, ...]]:
    units = plain_units(text)
    return [tuple(units[i : i + n]) for i in range(len(units) - n + 1)]


@given(st.lists(TEXTS, max_size=8), st.lists(TEXTS, max_size=3))
@settings(max_examples=150, deadline=None)
@pytest.mark.parametrize("native", [True, False])
def test_what_is_shared_is_what_a_plain_search_finds(native: bool, texts: list[str], parts: list[str]) -> None:
    # Parts of the fixed texts, so that something is shared.
    parts = [*parts, *(text[len(text) // 3 :] for text in texts[:2])]
    found = index_texts(texts, native=native).shared(parts, native=native)
    assert found == Plain(texts).shared(parts)


@given(st.text(max_size=80))
@settings(max_examples=300, deadline=None)
def test_units_are_the_same_in_c_and_in_python(text: str) -> None:
    text = normalise(text)
    assert hash_units(text).tolist() == hash_units(text, native=False).tolist()


def test_the_kernel_is_there_where_a_compiler_is() -> None:
    # Without this the comparison above would hold Python against itself.
    assert not isinstance(kernels(), Missing)


def test_punctuation_parts_words_and_some_scripts_have_one_unit_a_character() -> None:
    assert split(normalise("Janet’s 16 eggs—“fresh”… cost $2.50!")) == ["janet", "s", "16", "eggs", "fresh", "cost", "2", "50"]
    assert split("東京の天気 は ok") == ["東", "京", "の", "天", "気", "は", "ok"]


def numbered(first: int, count: int) -> str:
    return " ".join(f"w{i}" for i in range(first, first + count))


def test_coverage_is_the_share_of_what_counts() -> None:
    (found,) = index_texts([numbered(0, 40)]).shared([f"before {numbered(10, 20)} after"])
    assert found == Shared(0, 20, 40, True)
    assert found.coverage == 0.5


def test_no_n_gram_spans_two_parts() -> None:
    index = index_texts([numbered(0, 40)])
    assert index.shared([numbered(0, 7), numbered(7, 7)]) == []
    assert index.shared([numbered(0, 8)]) == [Shared(0, 8, 40, False)]


def test_what_many_texts_have_in_common_counts_for_nothing() -> None:
    common = numbered(0, 30)
    texts = [f"{common} {numbered(1000 * i, 30)}" for i in range(1, 12)]
    index = index_texts(texts)
    assert index.shared([common]) == []
    (found,) = index.shared([f"{common} {numbered(3000, 30)}"])
    assert (found.text, found.coverage) == (2, 1.0)
    # The same text many times over is one text.
    assert len(index_texts([common] * 12).shared([common])) == 12
    assert index_texts([common], ignore=[f"you are kind {common} to all"]).shared([common]) == []


def test_sets_have_boilerplate_of_their_own() -> None:
    common = numbered(0, 30)
    few = [f"{common} {numbered(1000 * i, 30)}" for i in range(1, 5)]
    many = [numbered(100_000 + 1000 * i, 30) for i in range(200)]
    assert index_texts(few + many, sets=[0] * 4 + [1] * 200).shared([common]) == []
    assert len(index_texts(few + many).shared([common])) == 4


def test_more_finds_than_there_is_room_for_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    index = index_texts([numbered(0, 500)])
    whole = index.shared([numbered(0, 500)])
    monkeypatch.setattr(index_module, "ROOM", 3)
    assert index.shared([numbered(0, 500)]) == whole == [Shared(0, 500, 500, True)]
