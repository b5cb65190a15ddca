"""What is looked for: how it is read, and what it fits."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budwood.data.forget.wanted import key_of, make_wanted
from budwood.errors import DataError
from budwood.text.normalise import normalise


def row(**values: Any) -> dict[str, Any]:
    said = [{"role": "user", "content": "I am Ann  Lee"}, {"role": "assistant", "content": "Hello"}]
    return {"row_id": "abcdef0123456789", "messages": said, "source": {"file": "lee.jsonl", "line": 1}} | values


@pytest.mark.parametrize(
    ("looked_for", "fits"),
    [
        ({"texts": ["ann lee"]}, True),
        ({"texts": ["\uff21nn\tLEE"]}, True),  # a full-width A
        ({"texts": ["nobody", "ANN LEE"]}, True),
        ({"texts": ["annlee"]}, False),
        ({"texts": ["lee.jsonl"]}, False),  # the file's name is none of the row's words
        ({"texts": ["4711"]}, True),
        ({"texts": ["order"]}, True),
        ({"patterns": [r"Ann\s+Lee$"]}, True),
        ({"patterns": ["ann"]}, False),
        ({"columns": ["order=4711"]}, True),
        ({"columns": ["order=47"]}, False),
        ({"columns": [" Order=4711"]}, False),
        ({"rows": ["ABCDEF…"]}, True),
        ({"rows": ["bcdef0"]}, False),
    ],
)
def test_a_row_fits_by_its_words_values_and_id(looked_for: dict[str, list[str]], fits: bool) -> None:
    assert make_wanted(**looked_for).in_row(row(slices={"order": 4711})) is fits


def test_words_of_a_call_and_of_an_unreadable_record_count() -> None:
    wanted = make_wanted(texts=["ann lee"])
    call = {"id": "1", "function": {"name": "find", "arguments": {"who": "Ann Lee"}}}
    assert wanted.in_row({"messages": [{"role": "assistant", "content": "", "tool_calls": [call]}]})
    assert wanted.in_row({"row_id": "1", "raw": '{"prompt": "ann LEE'})


@pytest.mark.parametrize(
    ("looked_for", "message"),
    [
        ({}, "Nothing is looked for.\n    Give --match, --pattern, --column or --row."),
        ({"texts": [" \t"]}, "An empty text is in every row. In --match.\n    Say what is looked for."),
        (
            {"patterns": ["x*"]},
            "A pattern fits the empty text, and so every row. In --pattern.\n    Make it say more.",
        ),
        (
            {"patterns": ["("]},
            "A pattern cannot be read: missing ), unterminated subpattern at position 0. In --pattern.\n"
            "    Write it as Python's re does.",
        ),
        ({"columns": ["x"]}, "A column is given without its name or value. In --column.\n    Write NAME=VALUE."),
        ({"columns": ["x= "]}, "A column is given without its name or value. In --column.\n    Write NAME=VALUE."),
        (
            {"rows": ["abc"]},
            "'abc' is no row id. In --row.\n    Give the first 6 digits or more, as listed in the data.",
        ),
    ],
)
def test_what_would_fit_nothing_or_everything_is_refused(looked_for: dict[str, list[str]], message: str) -> None:
    with pytest.raises(DataError) as caught:
        make_wanted(**looked_for)
    assert str(caught.value) == message


@given(st.text(), st.text(min_size=1), st.text())
def test_a_text_is_found_wherever_it_stands(before: str, text: str, after: str) -> None:
    if normalise(text) and normalise(text) in normalise(f"{before} {text} {after}"):
        wanted = make_wanted(texts=[text])
        said = row(messages=[{"role": "user", "content": f"{before} {text} {after}"}])
        assert wanted.in_row(said)
        assert all(wanted.may_hold(json.dumps(said, ensure_ascii=ascii_only).encode()) for ascii_only in (True, False))


@given(
    st.text(alphabet='aB\u0301\u00e9\u017f \n\t\\"x1', max_size=12),
    st.text(alphabet='aB\u0301\u00e9s x1"\\', min_size=1, max_size=4),
)
def test_a_line_that_is_passed_over_holds_nothing(said: str, text: str) -> None:
    if not normalise(text):
        return
    wanted = make_wanted(texts=[text])
    stored = row(messages=[{"role": "user", "content": said}], slices={"n": 1.5, "a1": said})
    line = json.dumps(stored, ensure_ascii=False, separators=(",", ":")).encode()
    assert wanted.may_hold(line) or not wanted.in_row(stored)


def test_rows_that_say_the_same_have_one_key_whatever_else_is_known_of_them() -> None:
    system = {"role": "system", "content": "Be kind."}
    assert key_of(row()) == key_of(row(row_id="1", messages=[system, *row()["messages"]], rule="exact_duplicate"))
    assert key_of(row()) == key_of(row(messages=[{"role": "user", "content": "i am ann lee"}, row()["messages"][1]]))
    assert key_of(row()) != key_of(row(messages=row()["messages"][:1]))
    assert key_of({"raw": "x"}) != key_of({"raw": "y"})
