"""Shapes: each layout gives the same messages, and what does not fit says what is missing."""

from collections.abc import Mapping
from typing import Any

import pytest

from budwood.errors import DataError
from budwood.prepare.row import Message
from budwood.prepare.shapes import Misshapen, Shape, convert, recognise

ASKED = (Message("user", "Q"), Message("assistant", "A"))
PART = {"type": "text", "text": "Q"}
SAME: list[tuple[Shape, dict[str, Any]]] = [
    ("messages", {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}),
    ("messages", {"messages": [{"role": "user", "content": [PART]}, {"role": "assistant", "content": "A"}]}),
    ("prompt", {"prompt": "Q", "completion": "A"}),
    ("prompt", {"prompt": [{"role": "user", "content": "Q"}], "completion": [{"role": "assistant", "content": "A"}]}),
    ("alpaca", {"instruction": "Q", "input": "", "output": "A"}),
    ("alpaca", {"instruction": "Q", "input": "<noinput>", "output": "A"}),
    ("alpaca", {"instruction": "Q", "input": "No input.", "output": "A"}),
    ("sharegpt", {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "record"), SAME)
def test_every_shape_is_recognised_and_gives_the_same_messages(shape: Shape, record: Mapping[str, Any]) -> None:
    assert recognise([record], shown="rows") == shape
    content = convert({**record, "lang": "de", "n": 3, "meta": {"a": 1}}, shape, {})
    assert content.messages == ASKED
    assert content.slices == {"lang": "de", "n": 3}


def test_columns_are_named_by_the_recipe_and_the_rest_become_slices() -> None:
    columns = {"prompt": "text", "completion": "label", "system": "task"}
    content = convert({"text": "Q", "label": 7, "task": "Sort.", "id": 1}, "columns", columns)
    assert content.messages == (Message("system", "Sort."), Message("user", "Q"), Message("assistant", "7"))
    assert content.slices == {"id": 1}


def test_alpaca_input_follows_its_instruction() -> None:
    content = convert({"instruction": "Translate.", "input": "Hallo", "output": "Hello"}, "alpaca", {})
    assert content.messages[0] == Message("user", "Translate.\n\nHallo")


def test_a_record_without_an_answer_fits_and_has_no_assistant_message() -> None:
    assert convert({"prompt": "Q"}, "prompt", {}).messages == (Message("user", "Q"),)
    assert convert({"prompt": "Q", "completion": None}, "prompt", {}).messages == (Message("user", "Q"),)


@pytest.mark.parametrize(
    ("shape", "record", "fault"),
    [
        ("prompt", {"completion": "A"}, 'no "prompt"'),
        ("prompt", {"prompt": {"a": 1}, "completion": "A"}, '"prompt" holds no text'),
        ("messages", {"messages": []}, "messages is no list of messages"),
        ("messages", {"messages": [{"content": "Q"}]}, "message 1 has no role"),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "something else than text"),
        ("sharegpt", {"conversations": [{"value": "Q"}]}, 'turn 1 has no "from"'),
        ("messages", {"messages": [{"role": "assistant", "content": "A", "weight": 0.5}]}, '"weight": 0.5, which is neither'),
    ],
)
def test_what_does_not_fit_says_why(shape: Shape, record: Mapping[str, Any], fault: str) -> None:
    with pytest.raises(Misshapen, match=fault):
        convert(record, shape, {})


def test_an_unknown_shape_lists_its_keys() -> None:
    with pytest.raises(DataError) as caught:
        recognise([{"text": "Q", "label": "A"}], shown="rows.csv")
    assert str(caught.value) == (
        "rows.csv has rows of no known shape: their keys are 'text', 'label'.\n"
        '    Name the columns in the recipe, e.g. columns = { prompt = "text", completion = "label" }, or use messages, '
        "prompt and completion, instruction and output, or conversations."
    )


@pytest.mark.parametrize(
    ("said", "trained"),
    [({}, True), ({"weight": 1}, True), ({"weight": 0}, False), ({"train": False}, False), ({"train": None}, True)],
)
def test_a_flag_on_an_answer_says_whether_it_is_learnt(said: dict[str, Any], trained: bool) -> None:
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A", **said}]
    assert convert({"messages": turns}, "messages", {}).messages[1] == Message("assistant", "A", trained)
    spoken = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A", **said}]
    assert convert({"conversations": spoken}, "sharegpt", {}).messages[1] == Message("assistant", "A", trained)
