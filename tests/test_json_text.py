"""A list read item by item says what the whole read at once says, wherever it is cut."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budwood.json_text import decode, decode_list

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
CUTS = st.lists(st.integers(1, 9), min_size=1, max_size=20)


def pieces(text: str, cuts: list[int]) -> Iterator[str]:
    at = number = 0
    while at < len(text):
        step = cuts[number % len(cuts)]
        yield text[at : at + step]
        at, number = at + step, number + 1


def outcome(read: Any) -> Any:
    try:
        return read()
    except ValueError as error:
        return f"refused: {error}"


@given(st.lists(VALUES, max_size=5), CUTS, st.sampled_from([None, 1]), st.booleans())
@settings(max_examples=80, deadline=None)
def test_every_list_is_read(values: list[Any], cuts: list[int], indent: int | None, ascii_only: bool) -> None:
    text = f"\n {json.dumps(values, indent=indent, ensure_ascii=ascii_only)} \n"
    assert list(decode_list(pieces(text, cuts))) == decode(text)


@given(st.lists(VALUES, min_size=1, max_size=4), CUTS, st.data())
@settings(max_examples=150, deadline=None)
def test_a_fault_is_told_as_of_the_whole(values: list[Any], cuts: list[int], data: st.DataObject) -> None:
    text = json.dumps(values, indent=data.draw(st.sampled_from([None, 1])))
    place = data.draw(st.integers(1, len(text)))
    put = data.draw(st.sampled_from(["", ",", "]", "[", "{", "}", '"', "\\", "x", "-", "1", ".", "e", ":", "\n", "NaN", "tru"]))
    broken = text[:place] + put + text[place + data.draw(st.integers(0, 2)) :]
    whole = outcome(lambda: decode(broken))
    if isinstance(whole, list | str):
        assert outcome(lambda: list(decode_list(pieces(broken, cuts)))) == whole


@pytest.mark.parametrize("text", ["[" * 100_000, '[{"a": 1, "a": 2}]', "[1,]", "[1 2]", "[1", "[", "[]]", '["a]', "[1]\n\n x"])
def test_these_too(text: str) -> None:
    assert outcome(lambda: list(decode_list([text]))) == outcome(lambda: decode(text))


def test_what_comes_before_a_fault_is_given() -> None:
    items = decode_list(["[1, 2", ", x]"])
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="Expecting value at column 8"):
        next(items)


def test_no_more_than_an_item_and_a_piece_are_held() -> None:
    given_ = 0

    def texts() -> Iterator[str]:
        nonlocal given_
        yield "["
        for number in range(1000):
            given_ += 1
            yield f'{"," if number else ""}{{"a": "{"x" * 1000}"}}'
        yield "]"

    for read, _ in enumerate(decode_list(texts()), start=1):
        assert given_ <= read + 3


def test_an_item_without_an_end_is_refused_before_it_fills_the_memory() -> None:
    given_ = 0

    def texts() -> Iterator[str]:
        nonlocal given_
        yield '["'
        while True:
            given_ += 1
            yield "x" * 100

    with pytest.raises(ValueError, match="an item has more than 10,000 characters"):
        list(decode_list(texts(), longest=10_000))
    assert given_ < 300
