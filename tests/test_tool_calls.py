"""Tool calls and schemas: what is read, what is refused and where, and what changing their texts leaves alone."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budwood.json_text import decode
from budwood.tool_calls import ToolFault, link_fault, mapped, read_calls, read_tools, shown, strings, with_arguments, written

FIND = {"type": "function", "function": {"name": "find", "arguments": {"b": 1, "a": "x"}}}


@pytest.mark.parametrize(
    "given_as",
    [
        {"type": "function", "function": {"name": "find", "arguments": {"b": 1, "a": "x"}}},
        {"type": "function", "function": {"name": "find", "arguments": '{"b": 1, "a": "x"}'}},
        {"function": {"arguments": {"b": 1, "a": "x"}, "name": "find"}, "id": None, "index": None},
        {"name": "find", "arguments": '{"b": 1, "a": "x"}'},
    ],
)
def test_every_form_of_a_call_becomes_one(given_as: dict[str, Any]) -> None:
    (call,) = read_calls([given_as])
    assert json.dumps(call) == json.dumps(FIND)
    assert read_calls([{**given_as, "id": "1"}]) == ({"id": "1", **FIND},)
    assert read_calls(list(read_calls([given_as]))) == (FIND,)


@pytest.mark.parametrize(
    "value", [{"type": "function", "function": {"name": "f", "strict": True}}, {"name": "f", "strict": True}]
)
def test_every_form_of_a_schema_becomes_one(value: dict[str, Any]) -> None:
    assert read_tools([value]) == ({"type": "function", "function": {"name": "f", "strict": True}},)


def deep(levels: int) -> Any:
    return [deep(levels - 1)] if levels else 1


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        ("find", "", "is a string where a list of calls is expected"),
        ([3], "[0]", "is a number where an object is expected"),
        ([{}], "[0].function", "is missing"),
        ([{"type": "custom"}], "[0].type", "is none that is known: functions are"),
        ([{"function": "f"}], "[0].function", "is a string where an object is expected"),
        ([{"function": {"arguments": {}}}], "[0].function.name", "is missing"),
        ([{"function": {"name": " ", "arguments": {}}}], "[0].function.name", "is no name"),
        ([{"function": {"name": "f"}}], "[0].function.arguments", "is missing"),
        ([{"name": "f", "arguments": ""}], "[0].arguments", "is no JSON: Expecting value at column 1"),
        ([{"name": "f", "arguments": '{"a": 1, "a": 2}'}], "[0].arguments", "is no JSON: the key 'a' occurs twice"),
        ([{"name": "f", "arguments": '{"a": NaN}'}], "[0].arguments", "is no JSON: NaN is no JSON value"),
        ([{"name": "f", "arguments": '{"a": 1e999}'}], "[0].arguments", "holds a number that is too large, or none"),
        ([{"name": "f", "arguments": "[1]"}], "[0].arguments", "is a list where an object is expected"),
        ([{"name": "f", "arguments": '"{}"'}], "[0].arguments", "is a string where an object is expected"),
        ([{"name": "f", "arguments": "[" * 100_000}], "[0].arguments", "is no JSON: nested too deeply"),
        ([{"name": "f", "arguments": {"a": deep(65)}}], "[0].arguments", "is nested deeper than 64"),
        ([{"name": "f", "arguments": {"a": b"x"}}], "[0].arguments", "holds a bytes, which is no JSON value"),
        ([{"name": "f", "arguments": {}, "code": "x"}], "[0].code", "is not understood; known are name, arguments"),
        ([{"function": {"name": "f", "arguments": {}}, "index": 0}], "[0].index", "is not understood; known are id, type"),
        ([FIND | {"id": "1"}, FIND | {"id": "1"}], "", "gives two calls one id"),
    ],
)
def test_calls_that_are_not_understood_are_refused_with_their_place(value: Any, path: str, reason: str) -> None:
    with pytest.raises(ToolFault) as caught:
        read_calls(value)
    assert (caught.value.path, caught.value.reason) == (path, reason)


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        ({}, "", "is an object where a list of function schemas is expected"),
        (["f"], "[0]", "is a string where an object is expected"),
        ([{"type": "code_interpreter"}], "[0].type", "is none that is known: functions are"),
        ([{"name": "f", "parameters": "{}"}], "[0].parameters", "is a string where an object is expected"),
        ([{"function": {"name": "f", "description": 1}}], "[0].function.description", "is a number where a text is expected"),
        ([{"name": "f"}, {"function": {"name": "f"}}], "[1].function.name", "is the name of an earlier function"),
    ],
)
def test_schemas_that_are_not_understood_are_refused_with_their_place(value: Any, path: str, reason: str) -> None:
    with pytest.raises(ToolFault) as caught:
        read_tools(value)
    assert (caught.value.path, caught.value.reason) == (path, reason)


def test_results_may_come_in_any_order_and_without_ids() -> None:
    calls = [FIND | {"id": "1"}, FIND | {"id": "2"}]
    asked: list[dict[str, Any]] = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": calls}]

    def result(**said: str) -> dict[str, str]:
        return {"role": "tool", "content": "r", **said}

    assert link_fault([*asked, result(tool_call_id="2"), result(tool_call_id="1"), {"role": "assistant"}]) is None
    assert link_fault([*asked, result(), result(name="find"), {"role": "user"}]) is None
    assert link_fault(asked) is None
    fault = link_fault([*asked, result()], first=1)
    assert fault is not None
    assert fault == (2, "ends the row before the results of 1 of 2 calls of message 2")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_reading_text_and_object_is_the_same_and_walking_changes_nothing(arguments: dict[str, Any]) -> None:
    (held,) = read_calls([{"name": "f", "arguments": arguments}])
    assert read_calls([{"name": "f", "arguments": json.dumps(arguments)}]) == (held,)
    assert mapped(held, str, keys=True) == held
    assert decode(json.dumps(held)) == held
    doubled = with_arguments(held, lambda value: mapped(value, lambda text: text + text, keys=True))
    assert [text + text for text in strings(arguments)] == list(strings(doubled["function"]["arguments"]))


def test_calls_are_written_for_people_and_for_comparison_without_ids() -> None:
    assert written([FIND, FIND | {"id": "1"}]) == 'find({"a":"x","b":1}) find({"a":"x","b":1})'
    assert shown({"content": "Hm.", "tool_calls": [FIND]}) == 'Hm.\nfind({"a":"x","b":1})'
    assert shown({"content": "Hm."}) == "Hm."
