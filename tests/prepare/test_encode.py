"""Encoded halves: what json writes of the same values."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.prepare.reference.lines import Placed, as_json, rejected_as_json

from budwood.identity import Digest, digest_json
from budwood.prepare.encode import SPLIT, encode_rejected, encode_row, reject_encoded, touches_size, with_touches
from budwood.prepare.row import Message, Origin, Rejected, Row, Touch

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
CALL = {"id": "c", "type": "function", "function": {"name": "find", "arguments": {"ä": [1.5, None]}}}
MESSAGES = st.builds(
    Message, TEXT, TEXT, st.booleans(), st.sampled_from([(), (CALL,)]), st.sampled_from(["", "c"]), st.sampled_from(["", "né"])
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT)
TOUCHES = st.lists(st.builds(Touch, st.just("pii"), st.sampled_from(["changed", "flagged"]), TEXT), max_size=2).map(tuple)
TOOL = {"type": "function", "function": {"name": "find", "description": "@"}}
ROWS = st.builds(
    lambda file, line, messages, slices, weight, touched, tokens, tools: Row(
        Origin(file, Digest("a" * 64), line).row_id,
        Origin(file, Digest("a" * 64), line),
        tuple(messages),
        slices,
        weight,
        "auto",
        touched,
        tokens,
        tools,
    ),
    TEXT,
    st.integers(1, 10**9),
    st.lists(MESSAGES, min_size=1, max_size=3),
    st.dictionaries(TEXT, SCALARS, max_size=3),
    st.floats(0.001, 1e20),
    TOUCHES,
    st.one_of(st.none(), st.integers(0, 9999)),
    st.sampled_from([(), (TOOL,)]),
)


def as_line(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n").encode("utf-8")


def redact(text: str) -> str:
    return text.replace("@", "[AT]")


@given(ROWS, TOUCHES)
def test_a_row_in_halves_is_the_row_as_json(row: Row, more: tuple[Touch, ...]) -> None:
    head, tail = encode_row(row)
    assert head + b"00ff" + SPLIT + b"train" + tail == as_line(as_json(Placed(row, "00ff", "train")))
    flagged = row
    for touch in more:
        flagged = flagged.touch(*touch)
    if more:
        longer = with_touches(tail, more)
        assert len(longer) - len(tail) == touches_size(more, after_others=bool(row.touched))
        assert head + b"00ff" + SPLIT + b"test" + longer == as_line(as_json(Placed(flagged, "00ff", "test")))


@given(ROWS, TEXT)
def test_a_rejected_row_is_the_same_from_objects_and_from_halves(row: Row, reason: str) -> None:
    rejected = Rejected(row.origin, "leak", reason, row.messages, row.tools, row.slices)
    line = as_line(rejected_as_json(rejected, redact))
    assert encode_rejected(rejected, redact) == line
    assert reject_encoded(encode_row(row), "leak", reason, redact, lambda text: "@" in text) == line


@pytest.mark.parametrize("text", ["plain", "a@b", 'a "b"', "a\\b", "née", "a\nb", ',"source":{"weight":1}'])
@pytest.mark.parametrize("slices", [{}, {"weight": 3, "source": "x"}, {"weight": "née@"}, {"a": 'b",'}])
@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("tools", [(), (TOOL,), ({"type": "function", "function": {"name": "messages"}},)])
def test_a_line_that_is_cut_or_read_again_is_the_same(text: str, slices: Any, trained: bool, tools: Any) -> None:
    origin = Origin("rows.jsonl", Digest("a" * 64), 3)
    messages = (Message("user", text), Message("assistant", text, trained))
    row = Row(origin.row_id, origin, messages, slices, 1.0, "auto", (Touch("pii", "flagged", "weight"),), 12, tools)
    line = encode_rejected(Rejected(origin, "leak", text, messages, tools, slices), redact)
    assert reject_encoded(encode_row(row), "leak", text, redact, lambda held: "@" in held) == line
    assert reject_encoded(encode_row(row), "leak", text, redact, lambda held: True) == line


@given(TEXT, TEXT, st.integers(1, 10**12))
def test_what_could_not_be_read(raw: str, reason: str, line: int) -> None:
    origin = Origin("rows", Digest("b" * 64), line)
    assert origin.row_id == digest_json([origin.sha256, origin.line])[:16]
    rejected = Rejected(origin, "read", reason, raw)
    assert encode_rejected(rejected, redact) == as_line(rejected_as_json(rejected, redact))
