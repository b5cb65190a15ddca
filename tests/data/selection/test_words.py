"""Diversity, novelty and length against the obvious loops."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.selection.conftest import Desk

from budwood.data.rows import kept_rows
from budwood.data.scores import diversity, score
from budwood.data.scores.diversity import DIGITS, greedy_order
from budwood.data.scores.length import answer_length
from budwood.data.scores.novelty import novelty
from budwood.data.scores.words import pairs_of, word_pairs
from budwood.text.similarity import jaccard

TEXTS = st.lists(st.text("abc ", max_size=14), max_size=40)


def slow_order(texts: list[str]) -> list[tuple[int, float]]:
    """Look at every row again for every choice."""
    rows = {place: pairs_of(text) for place, text in enumerate(texts) if pairs_of(text)}
    mass: dict[str, float] = {}
    order = []
    while rows:
        gains = {
            place: math.fsum(math.log1p(1 / len(own) / (1 + mass.get(pair, 0))) for pair in own) for place, own in rows.items()
        }
        best = min(rows, key=lambda place: (-round(gains[place], DIGITS), place))
        order.append((best, gains[best]))
        for pair in rows[best]:
            mass[pair] = mass.get(pair, 0) + 1 / len(rows[best])
        del rows[best]
    return order


@settings(deadline=None)
@given(TEXTS, st.sampled_from([1, 3, 32]))
def test_the_greedy_order_is_the_one_of_looking_at_all_rows_each_time(texts: list[str], batch: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diversity, "BATCH", batch)
        order, added = greedy_order(word_pairs(texts))
    wanted = slow_order(texts)
    assert order.tolist() == [place for place, _ in wanted]
    assert added.tolist() == pytest.approx([gain for _, gain in wanted], abs=1e-9)
    assert all(later <= earlier for earlier, later in pairwise(added))


def test_a_lone_row_brings_about_as_much_whatever_its_length() -> None:
    _, added = greedy_order(word_pairs(["one", " ".join(map(str, range(200)))]))
    assert 0.69 < min(added) < max(added) < 1


@settings(deadline=None)
@given(TEXTS)
def test_novelty_is_one_minus_the_nearest_earlier_jaccard(texts: list[str]) -> None:
    found = novelty(word_pairs(texts))
    sets = [pairs_of(text) for text in texts]
    for place, own in enumerate(sets):
        if not own:
            assert math.isnan(found[place])
            continue
        nearest = max((jaccard(own, other) for other in sets[:place] if other), default=0.0)
        assert found[place] == pytest.approx(1 - nearest, abs=1e-12)


def test_novelty_over_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from budwood.data.scores import novelty as module

    texts = [f"{i} and {i % 7} is {i % 5}" for i in range(50)]
    whole = novelty(word_pairs(texts))
    monkeypatch.setattr(module, "BLOCK", 8)
    assert np.array_equal(novelty(word_pairs(texts)), whole)


def test_words_of_scripts_without_spaces_are_characters() -> None:
    assert pairs_of("你好嗎") == {"你 好", "好 嗎"}
    assert pairs_of("Hello, World!") == {"hello world"}
    assert pairs_of("one") == {"one"}
    assert pairs_of("...") == set()


def test_length_counts_what_is_learnt(desk: Desk) -> None:
    calls = [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]
    messages = [
        {"role": "user", "content": "not this"},
        {"role": "assistant", "content": "nor this", "train": False},
        {"role": "assistant", "content": "four", "tool_calls": calls},
    ]
    [row] = kept_rows(desk.store, desk.made_by_hand([{"messages": messages}]), ("train",))
    assert answer_length(row) == 4 + len('{"arguments":{"a":1},"name":"f"}')


def test_equal_scores_are_ordered_by_row_id_whatever_the_order_of_rows(desk: Desk) -> None:
    rows = [{"prompt": f"question {i}", "completion": "same"} for i in range(20)]
    snapshot = desk.snapshot(rows, validation=0.0, test=0.0)
    found = score(desk.store, snapshot, by="length")
    ids = [found.places[row].row_id for row in found.order]
    assert ids == sorted(ids)


def test_random_is_the_same_for_a_row_when_others_come(desk: Desk) -> None:
    first = score(desk.store, desk.made_by_hand([{"messages": []}] * 5), by="random", seed=3)
    more = score(desk.store, desk.made_by_hand([{"messages": []}] * 9), by="random", seed=3)
    assert more.values[:5].tolist() == first.values.tolist()
    assert score(desk.store, desk.made_by_hand([{"messages": []}] * 5), by="random", seed=4).values.tolist() != (
        first.values.tolist()
    )
