"""Rows that call tools: what sources may hold, what a snapshot keeps of it, and that no other row's name changes by it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars
import pytest
from tests.engine.test_chat_tools import MERGES_RESULTS
from tests.engine.tiny import CHATML, byte_tokenizer

from budwood.engine.chat import chat_template
from budwood.errors import DataError
from budwood.identity import Digest
from budwood.prepare.row import Drop, Message, Origin, Row
from budwood.prepare.rules.control_characters import ControlCharacters
from budwood.prepare.rules.empty_answer import EmptyAnswer
from budwood.prepare.rules.json_answer import JsonAnswer
from budwood.prepare.rules.label import Label
from budwood.prepare.rules.pii import Pii
from budwood.prepare.rules.roles import Roles
from budwood.prepare.rules.tool_turns import ToolTurns
from budwood.prepare.rules.unicode import Unicode
from budwood.prepare.rules.whitespace import Whitespace
from budwood.prepare.said import says
from budwood.prepare.shapes import Misshapen, Shape, convert
from budwood.prepare.work import ancestor
from budwood.train.rows import checked_rows, read_records

TOOL = {"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {"id": {}}}}}


def call(**arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "find", "arguments": arguments}}


def chat(number: int, **changes: Any) -> dict[str, Any]:
    """A question, a call, its result and the answer; no two numbers resemble each other."""
    word = f"{chr(97 + number % 26) * 7}{number * number} {chr(97 + number * 7 % 26) * 9}"
    asks = {"id": f"c{number}", "type": "function", "function": {"name": "find", "arguments": json.dumps({"id": number})}}
    messages = [
        {"role": "user", "content": f"Where is {word}?"},
        {"role": "assistant", "content": None, "tool_calls": [asks]},
        {"role": "tool", "tool_call_id": f"c{number}", "content": f"depot {word}"},
        {"role": "assistant", "content": f"At the depot, {word}."},
    ]
    return {"messages": messages, "tools": [TOOL]} | changes


# --- shapes ---

SAID = (
    Message("user", "Q"),
    Message("assistant", "", True, (call(id=7),)),
    Message("tool", "R"),
    Message("assistant", "A"),
)
OPENAI: list[dict[str, Any]] = [
    {"role": "user", "content": "Q", "tool_calls": None},
    {"role": "assistant", "content": None, "tool_calls": [call(id=7)]},
    {"role": "tool", "content": [{"type": "text", "text": "R"}], "tool_call_id": None},
    {"role": "assistant", "content": "A"},
]
SHAREGPT = [
    {"from": "human", "value": "Q"},
    {"from": "function_call", "value": '{"name": "find", "arguments": {"id": 7}}'},
    {"from": "observation", "value": "R"},
    {"from": "gpt", "value": "A"},
]


@pytest.mark.parametrize(
    ("shape", "record"),
    [
        ("messages", {"messages": OPENAI, "tools": [TOOL]}),
        ("messages", {"messages": OPENAI, "tools": json.dumps([TOOL])}),
        ("prompt", {"prompt": OPENAI[:3], "completion": OPENAI[3:], "tools": [TOOL["function"]]}),
        ("sharegpt", {"conversations": SHAREGPT, "tools": json.dumps([TOOL["function"]])}),
        ("sharegpt", {"conversations": [{**m, "from": m["role"]} for m in OPENAI], "tools": [TOOL]}),
    ],
)
def test_every_shape_that_can_hold_calls_gives_the_same(shape: Shape, record: dict[str, Any]) -> None:
    content = convert(record | {"lang": "de"}, shape, {})
    assert content.messages == SAID
    assert content.tools == (TOOL,)
    assert content.slices == {"lang": "de"}


def test_results_keep_the_ids_and_names_that_they_give() -> None:
    turns = [{"role": "tool", "content": "R", "tool_call_id": "1", "name": "find"}]
    assert convert({"messages": turns}, "messages", {}).messages == (Message("tool", "R", call_id="1", name="find"),)


def test_several_calls_of_a_spoken_turn_are_one_answer_and_may_be_marked() -> None:
    calls = [{"name": "find", "arguments": {"id": 1}}, {"name": "find", "arguments": '{"id": 2}'}]
    turn = {"from": "function_call", "value": json.dumps(calls), "weight": 0}
    assert convert({"conversations": [turn]}, "sharegpt", {}).messages == (
        Message("assistant", "", False, (call(id=1), call(id=2))),
    )


@pytest.mark.parametrize(
    ("shape", "record", "tools", "slices"),
    [
        ("messages", {"messages": OPENAI[:1], "tools": None}, (), {"tools": None}),
        ("messages", {"messages": OPENAI[:1], "tools": []}, (), {}),
        ("sharegpt", {"conversations": SHAREGPT[:1], "tools": ""}, (), {"tools": ""}),
        ("prompt", {"prompt": "Q", "completion": "A", "tools": "hammer"}, (), {"tools": "hammer"}),
        ("prompt", {"prompt": "Q", "completion": "A", "tools": ["hammer"]}, (), {}),
        ("prompt", {"prompt": "Q", "completion": "A", "tools": [TOOL]}, (TOOL,), {}),
    ],
)
def test_a_column_of_that_name_without_schemas_is_what_it_was(
    shape: Shape, record: Mapping[str, Any], tools: Any, slices: Any
) -> None:
    content = convert(record, shape, {})
    assert (content.tools, content.slices) == (tools, slices)


@pytest.mark.parametrize(
    ("shape", "record", "fault"),
    [
        (
            "messages",
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]},
            "message 1: tool_calls[0].function is missing",
        ),
        (
            "messages",
            {"messages": [*OPENAI[:1], {"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{'a': 1}"}]}]},
            "message 2: tool_calls[0].arguments is no JSON: Expecting property name enclosed in double quotes at column 2",
        ),
        (
            "messages",
            {"messages": [{"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}]},
            'message 1 has "function_call", the older form of "tool_calls"',
        ),
        (
            "messages",
            {"messages": [{"role": "user", "content": "Q", "tool_calls": [call()]}]},
            'message 1 has "tool_calls", and is not from the assistant',
        ),
        ("messages", {"messages": [{"role": "tool", "content": {"a": 1}}]}, "message 1 holds something else than text"),
        (
            "messages",
            {"messages": [{"role": "tool", "content": "R", "tool_call_id": 7}]},
            "message 1 has a tool_call_id or a name that is no text",
        ),
        ("messages", {"messages": OPENAI, "tools": ["find"]}, "tools[0] is a string where an object is expected"),
        ("messages", {"messages": OPENAI, "tools": "[{]"}, "tools is no JSON: Expecting property name enclosed"),
        ("messages", {"messages": OPENAI, "functions": [TOOL["function"]]}, '"functions" is the older form of "tools"'),
        (
            "sharegpt",
            {"conversations": [{"from": "function_call", "value": "find it"}]},
            "turn 1 (function_call) is no JSON: Expecting value at column 1",
        ),
        ("sharegpt", {"conversations": [{"from": "function_call", "value": "[]"}]}, "turn 1 (function_call) calls nothing"),
        (
            "sharegpt",
            {"conversations": [{"from": "function_call", "value": '{"arguments": {}}'}]},
            "message 1: function_call[0].function is missing",
        ),
    ],
)
def test_what_is_not_understood_is_refused_by_name(shape: Shape, record: Mapping[str, Any], fault: str) -> None:
    with pytest.raises(Misshapen) as caught:
        convert(record, shape, {})
    assert str(caught.value).startswith(fault)


def test_nulls_of_parquet_are_told_from_nulls_that_somebody_wrote(bench: Any) -> None:
    def file(name: str, arguments: Sequence[Any]) -> str:
        rows = [
            {"messages": [{"role": "user", "content": f"Q{n} {'x' * n}", "tool_calls": None},
                          {"role": "assistant", "content": None, "tool_calls": [{"name": "find", "arguments": one}]}]}
            for n, one in enumerate(arguments)
        ]  # fmt: skip
        polars.DataFrame(rows).write_parquet(bench.folder / name)
        return name

    padded = bench.prepare(file("padded.parquet", [{"id": 1, "unit": None}, {"id": 2, "unit": "km"}]), max_malformed=1)
    assert padded.reasons()[1] == (
        "read",
        "arguments or tools hold nulls, which Parquet also puts where keys are missing; keep them as JSON text",
    )
    assert [row["source"]["line"] for row in padded.kept] == [2]
    text = bench.prepare(file("text.parquet", ['{"id": 1, "unit": null}', '{"id": 2}']))
    assert [row["messages"][1]["tool_calls"][0]["function"]["arguments"] for row in text.kept] == [
        {"id": 1, "unit": None},
        {"id": 2},
    ]


# --- rules ---


def row(*messages: Message, tools: tuple[Any, ...] = ()) -> Row:
    origin = Origin("rows.jsonl", Digest("0" * 64), 7)
    return Row(origin.row_id, origin, messages, {}, 1.0, "auto", tools=tools)


Q, A, R = Message("user", "Q"), Message("assistant", "A"), Message("tool", "R")
C = Message("assistant", "", True, (call(id=7),))
CC = Message("assistant", "", True, ({"id": "1", **call(id=7)}, {"id": "2", **call(id=8)}))


@pytest.mark.parametrize(
    "messages",
    [(Q, C), (Q, C, R, A), (Message("system", "S"), Q, C, R, C, R, A, Q, A), (Q, CC, R, R, A), (Q, A, Q, C)],
)
def test_turns_in_order_stay(messages: tuple[Message, ...]) -> None:
    given = row(*messages, tools=(TOOL,))
    assert ToolTurns().apply(given) is given
    assert Roles().apply(given) is given
    assert EmptyAnswer().apply(given) is given


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ((Q, R, A), "message 2 is a tool's result, but the message before it calls no tool"),
        ((R, A), "message 1 is a tool's result, but the message before it calls no tool"),
        ((Q, C, A), "message 3 comes before the result of the call of message 2"),
        ((Q, CC, R, A), "message 4 comes before the results of 1 of 2 calls of message 2"),
        ((Q, C, Q, A), "message 3 comes before the result of the call of message 2"),
        ((Q, C, R, R, A), "message 4 is one result more than message 2 has calls"),
        ((Q, CC, Message("tool", "R", call_id="3"), R, A), "message 3 gives a tool_call_id that no open call of message 2 has"),
        ((Q, C, Message("tool", "R", name="g"), A), "message 3 is the result of another function than message 2 calls"),
        ((Q, C, R, Q, A), "message 4 is from user where assistant is expected"),
        ((Q, A, C, R, A), "message 3 is from assistant where user is expected"),
        ((C, R, A), "message 1 is from assistant where user is expected"),
        ((Message("user", " "), C, R, A), "an empty user message"),
        ((Q, C, R, A, Message("system", "S"), Q, A), "a system message that is not the first"),
        ((Q, C, Message("function", "R"), A), "message 3 is from another role; known are system, user, assistant, tool"),
    ],
)
def test_turns_in_disorder_drop_the_row(messages: tuple[Message, ...], reason: str) -> None:
    assert ToolTurns().apply(row(*messages)) == Drop(reason)


def test_results_that_nobody_answers_are_taken_off_and_the_call_is_learnt() -> None:
    for rest in ((R,), (R, Q)):
        outcome = ToolTurns().apply(row(Q, C, *rest))
        assert isinstance(outcome, Row)
        assert outcome.messages == (Q, C)
        assert outcome.touched == (("tool_turns", "changed", "last messages without an answer taken off"),)


def test_calls_of_functions_that_are_not_listed_drop_the_row() -> None:
    other = {"type": "function", "function": {"name": "other"}}
    assert ToolTurns().apply(row(Q, C, tools=(other,))) == Drop("message 2 calls a function that the row's tools do not list")
    assert isinstance(ToolTurns().apply(row(Q, C)), Row)


def finding(**parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "find", "parameters": parameters}}


@pytest.mark.parametrize(
    ("parameters", "fault"),
    [
        ({"type": "object", "properties": {"id": {"type": "integer"}}}, ""),
        ({}, ""),
        ({"type": "object", "properties": {"id": {"type": "string"}}}, '"type" at id'),
        ({"type": "object", "required": ["city"]}, '"required" at the top'),
        ({"type": "object", "properties": {"city": {}}, "additionalProperties": False}, '"additionalProperties" at the top'),
        ({"properties": {"id": {"$ref": "#/$defs/small"}}, "$defs": {"small": {"maximum": 6}}}, '"maximum" at id'),
    ],
)
def test_arguments_that_break_their_schema_drop_the_row(parameters: dict[str, Any], fault: str) -> None:
    given = row(Q, C, R, A, tools=(finding(**parameters),))
    expected = Drop(f"message 2 calls a function with arguments that break its schema: {fault}") if fault else given
    assert ToolTurns().apply(given) == expected


@pytest.mark.parametrize(
    "parameters", [{"type": "dict"}, {"$ref": "https://example.org/elsewhere.json"}, {"type": "object", "$id": 3}]
)
def test_parameters_that_are_no_schema_are_said_to_be_unchecked(parameters: dict[str, Any]) -> None:
    outcome = ToolTurns().apply(row(Q, C, R, A, tools=(finding(**parameters),)))
    assert isinstance(outcome, Row)
    assert outcome.touched == (("tool_turns", "flagged", "parameters of 1 called functions are no JSON Schema: not checked"),)


def test_what_is_asked_of_answers_is_not_asked_of_calls() -> None:
    given = row(Q, C)
    assert Label(labels=("yes",)).apply(given) is given
    assert JsonAnswer(schema={}, faults=lambda value: "wrong").apply(given) is given
    assert EmptyAnswer().apply(row(Q, Message("assistant", "n/a", True, C.calls), R, A)) != Drop("a placeholder for an answer")


def test_texts_of_arguments_are_mended_and_their_white_space_stays() -> None:
    given = row(Q, Message("assistant", "", True, (call(note="  cafe\u0301\u200b\r\n", n=1),)))
    outcome = ControlCharacters().apply(given)
    assert isinstance(outcome, Row)
    outcome = Unicode().apply(outcome)
    assert isinstance(outcome, Row)
    assert outcome.messages[1].calls == (call(note="  café\r\n", n=1),)
    assert [touch.rule for touch in outcome.touched] == ["control_characters", "unicode"]
    assert Whitespace().apply(outcome) is outcome


def test_personal_data_is_found_wherever_it_stands() -> None:
    mail = "ann@example.org"
    tool = {"type": "function", "function": {"name": "find", "description": f"Ask {mail}.", "parameters": {"required": [mail]}}}
    given = row(Q, Message("assistant", "", True, (call(**{mail: [mail]}),)), Message("tool", mail), A, tools=(tool,))
    outcome = Pii().apply(given)
    assert isinstance(outcome, Row)
    assert mail not in repr(outcome.messages) + repr(outcome.tools)
    assert outcome.messages[1].calls == (call(**{"[EMAIL]": ["[EMAIL]"]}),)
    assert outcome.touched == (("pii", "changed", "5 e-mail addresses redacted"),)
    two = row(Q, Message("assistant", "", True, (call(**{mail: 1, f"b{mail}": 2}),)))
    assert Pii().apply(two) == Drop("holds 2 e-mail addresses, in two names of one call or schema, which would become one")
    assert Pii(action="drop").apply(two) == Drop("holds 2 e-mail addresses")
    flagged = Pii(action="flag").apply(two)
    assert isinstance(flagged, Row)
    assert flagged.messages == two.messages


# --- the stage ---


def test_a_snapshot_holds_calls_results_and_tools_as_templates_take_them(bench: Any) -> None:
    snapshot = bench.prepare(bench.write("rows.jsonl", [chat(n) for n in range(12)]))
    (kept,) = (row for row in snapshot.kept if row["source"]["line"] == 8)
    assert list(kept) == ["row_id", "messages", "tools", "source", "group", "split", "slices", "weight", "touched"]
    assert kept["tools"] == [TOOL]
    assert kept["messages"][1:3] == [
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c7", **call(id=7)}]},
        {"role": "tool", "content": "depot hhhhhhh49 xxxxxxxxx", "tool_call_id": "c7"},
    ]
    assert next(rule for rule in snapshot.body["rules"] if rule["name"] == "tool_turns")["dropped"] == 0
    assert snapshot.body["sources"][0]["left_out"] == []


def test_snapshots_of_rows_without_tools_say_nothing_of_them(bench: Any) -> None:
    texts: list[dict[str, Any]] = [
        {
            "messages": [
                {"role": "user", "content": f"Question {n} {chr(97 + n) * 9}?"},
                {"role": "assistant", "content": f"A{n}"},
            ],
            "lang": "de",
            "meta": {"n": n},
            "tools": [] if n % 2 else None,
        }
        for n in range(20)
    ]
    talk = [{"role": role, "content": text, "weight": 0} for role, text in (("user", "a b"), ("assistant", "c"), ("user", "d"))]
    rows = [
        *texts,
        texts[0],
        {"messages": [*talk, {"role": "assistant", "content": "mail ann@example.org"}]},
        {"messages": [*talk[:1], {"role": "assistant", "content": " "}]},
        {"messages": [*talk[:1], {"role": "function", "content": "x"}]},
        {"messages": [*talk[:1], {"role": "user", "content": "x"}]},
    ]
    snapshot = bench.prepare(bench.write("rows.jsonl", rows))
    assert "tool_turns" not in {rule["name"] for rule in snapshot.body["rules"]}
    assert not any("tools" in row for row in (*snapshot.kept, *snapshot.rejected))


def test_rows_that_differ_in_arguments_tools_or_calls_alone_are_different(bench: Any) -> None:
    def asked(arguments: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
        question = {"role": "user", "content": "Where is the parcel with my new kettle, and when will it come?"}
        return {"messages": [question, {"role": "assistant", "content": "", "tool_calls": [call(**arguments)]}], **changes}

    rows = [
        asked({"id": 7, "name": "Ann"}),
        asked({"name": "Ann", "id": 7}),
        asked({"id": 7, "name": "ann"}),
        asked({"id": 7, "name": "Ann"}, tools=[TOOL]),
    ]
    rows[1]["messages"][1]["tool_calls"][0] = {"id": "other", **rows[1]["messages"][1]["tool_calls"][0]}
    snapshot = bench.prepare(bench.write("rows.jsonl", rows), conflicts="keep", validation=0, test=0)
    assert {line: rule for line, (rule, _) in snapshot.reasons().items()} == {2: "exact_duplicate"}
    assert len({row["group"] for row in snapshot.kept}) == 1
    conflicting = bench.prepare(bench.write("two.jsonl", [rows[0], rows[2], rows[3]]), conflicts="drop", validation=0, test=0)
    assert conflicting.reasons() == {
        1: ("conflict", "its prompt has 2 different answers"),
        2: ("conflict", "its prompt has 2 different answers"),
    }


def test_a_published_test_row_is_recognised_by_its_calls_too(bench: Any) -> None:
    same, other = chat(3), chat(3)
    other["messages"][1]["tool_calls"][0]["function"]["arguments"] = '{"id": 99999, "deep": {"list": ["one", "two"]}}'
    test = bench.write("test.jsonl", [chat(3)])
    leaks = bench.prepare(bench.write("train.jsonl", [same, *map(chat, range(10, 20))]), {"path": test, "split": "test"})
    assert (1, "leak") in [(line, rule) for line, (rule, _) in leaks.reasons().items()]
    kept = bench.prepare(bench.write("other.jsonl", [other, *map(chat, range(10, 20))]), {"path": test, "split": "test"})
    assert [row["source"]["line"] for row in kept.rejected if row["rule"] == "leak" and "prompt as" in row["reason"]] == []


def test_rows_of_an_earlier_snapshot_are_recognised(bench: Any) -> None:
    first = bench.prepare(bench.write("rows.jsonl", [chat(n) for n in range(30)]), validation=0.3, test=0.3)
    again = bench.prepare(bench.write("grown.jsonl", [chat(n) for n in range(40)]), onto=first.digest, split_seed=9,
                          validation=0.3, test=0.3)  # fmt: skip
    splits = {json.dumps(row["messages"]): row["split"] for row in again.kept}
    assert len(first.kept) == 30
    # What is read back from a snapshot says what the row said that was written.
    known = {says(ancestor(kept)) for kept in first.kept}
    contents = [convert(chat(n), "messages", {}) for n in range(30)]
    assert known == {says(row(*content.messages, tools=content.tools)) for content in contents}
    assert all(splits[json.dumps(row["messages"])] == row["split"] for row in first.kept)


def test_rejected_rows_keep_their_calls_redacted(bench: Any) -> None:
    bad = chat(1, tools=[{"name": "other", "description": "Ask ann@example.org"}])
    bad["messages"][1]["tool_calls"][0]["function"]["arguments"] = '{"to": "ann@example.org"}'
    snapshot = bench.prepare(bench.write("rows.jsonl", [bad, *map(chat, range(10, 20))]))
    (rejected,) = snapshot.rejected
    assert rejected["rule"] == "tool_turns"
    assert rejected["messages"][1]["tool_calls"][0]["function"]["arguments"] == {"to": "[EMAIL]"}
    assert rejected["tools"][0]["function"]["description"] == "Ask [EMAIL]"


def test_half_a_character_in_an_argument_is_a_malformed_row(bench: Any) -> None:
    bad = chat(1)
    bad["messages"][1]["tool_calls"][0]["function"]["arguments"] = '{"to": "\\ud800"}'
    snapshot = bench.prepare(bench.write("rows.jsonl", [bad, *map(chat, range(10, 20))]), max_malformed=1)
    assert snapshot.reasons()[1] == ("read", "holds half a character (a lone surrogate)")


def test_supervise_last_learns_a_last_call(bench: Any) -> None:
    rows = [{**chat(n), "messages": chat(n)["messages"] + [
        {"role": "user", "content": "Again?"},
        {"role": "assistant", "content": "", "tool_calls": [call(id=n)]},
    ]} for n in range(3)]  # fmt: skip
    snapshot = bench.prepare(bench.write("rows.jsonl", rows), supervise="last", validation=0, test=0)
    assert [message.get("train", True) for message in snapshot.kept[0]["messages"]] == [True, False, True, False, True, True]


def test_rows_go_from_file_to_tokens(bench: Any) -> None:
    template = chat_template(byte_tokenizer(template=MERGES_RESULTS))
    name = bench.write("rows.jsonl", [chat(n) for n in range(10)])
    snapshot = bench.prepare(name, token_length=template.token_length, validation=0, test=0)
    records = list(read_records(bench.store.file(snapshot.digest, "train.jsonl")))
    rows = list(
        checked_rows(records, template, context=4096, stop_ids=template.stop_ids, total=None, report=lambda event: None)
    )
    assert len(rows) == 10
    assert sum(len(row.encoded.ids) for row in rows) == snapshot.body["lengths"]["train"]["total"]
    for record, one in zip(records, rows, strict=True):
        assert one.encoded == template.encode_row(record["messages"], record["tools"])
        assert one.encoded != template.encode_row(record["messages"])


def test_a_base_whose_template_knows_no_tools_rejects_such_rows_by_name(bench: Any) -> None:
    template = chat_template(byte_tokenizer(template=CHATML))
    plain = [{"role": "user", "content": "Hello there"}, {"role": "assistant", "content": "Hello"}]
    name = bench.write("rows.jsonl", [{"messages": plain}, chat(1)])
    snapshot = bench.prepare(name, token_length=template.token_length, validation=0, test=0)
    assert snapshot.reasons() == {2: ("template", "The chat template leaves out the name of function 1 of the tools.")}
    with pytest.raises(DataError, match=r"\(rows\.jsonl line 2\): The chat template leaves out the name of function 1"):
        bench.prepare(name, token_length=template.token_length, no_target="error")
