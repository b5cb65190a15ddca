"""The suite: which rows become cases, and what its digest is over."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.engine.test_chat_tools import MERGES_RESULTS
from tests.engine.tiny import byte_tokenizer
from tests.evaluate.conftest import gold, put_snapshot, recipe_with, row

from budwood.engine.chat import chat_template
from budwood.errors import EvaluationError
from budwood.evaluate.suite import make_suite
from budwood.identity import Digest
from budwood.recipe import Recipe
from budwood.store import Store


def test_test_rows_become_cases(recipe: Recipe, store: Store, snapshot: Digest) -> None:
    suite = make_suite(recipe, store, snapshot)
    first = suite.cases[0]
    assert len(suite.cases) == 12
    assert first.case_id == f"{0:064x}"
    assert [message["role"] for message in first.messages] == ["system", "user"]
    assert first.expected == gold(0)
    assert first.group == "group 0"
    assert first.slices == {"channel": "app", "intent": "refund"}
    assert [scorer.name for scorer in suite.scorers] == ["exact", "json_fields", "chrf"]


def test_the_last_answer_of_a_conversation_is_the_expectation(recipe: Recipe, store: Store) -> None:
    messages = [
        {"role": role, "content": text}
        for role, text in (("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "thanks"))
    ]
    (case,) = make_suite(recipe, store, put_snapshot(store, [row(0, messages=messages)])).cases
    assert case.expected == "d"
    assert [message["content"] for message in case.messages] == ["a", "b", "c"]


TOOL = {"type": "function", "function": {"name": "find"}}
CALL = {"type": "function", "function": {"name": "find", "arguments": {"id": 7}}}
CALLS = [
    {"role": "user", "content": "Where is 7?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL], "train": False},
    {"role": "tool", "content": "depot"},
    {"role": "assistant", "content": "At the depot."},
]


def test_prompts_hold_calls_results_and_tools(recipe: Recipe, store: Store) -> None:
    suite = make_suite(recipe, store, put_snapshot(store, [row(0, messages=CALLS, tools=[TOOL])]))
    (case,) = suite.cases
    assert case.expected == "At the depot."
    assert list(case.messages) == [CALLS[0], {"role": "assistant", "content": "", "tool_calls": [CALL]}, CALLS[2]]
    assert case.tools == (TOOL,)
    without = make_suite(recipe, store, put_snapshot(store, [row(0, messages=CALLS)]))
    assert without.digest != suite.digest


def test_a_call_is_expected_as_the_template_spells_it(recipe: Recipe, store: Store) -> None:
    snapshot = put_snapshot(store, [row(0, messages=CALLS[:2], tools=[TOOL])])
    template = chat_template(byte_tokenizer(template=MERGES_RESULTS))
    (case,) = make_suite(recipe, store, snapshot, spell=template.answer_text).cases
    assert case.expected == '\n(call) {"name": "find", "arguments": {"id": 7}}'
    assert list(case.messages) == CALLS[:1]
    with pytest.raises(EvaluationError, match=r"answer of test row 000000000000 calls a tool, and no template is given"):
        make_suite(recipe, store, snapshot)


def test_the_digest_of_a_suite_without_tools_is_what_it_was(recipe: Recipe, store: Store) -> None:
    suite = make_suite(recipe, store, put_snapshot(store, [row(number) for number in range(3)]))
    assert suite.digest == "c9b0f048d4569cd2c447866e4fe966e6cbd5198e576e3dc8bca982a2dab69390"


@pytest.mark.parametrize(
    "changes",
    [
        {"primary": "normalised"},
        {"scorers": ["json_fields"]},
        {"slice_by": ["channel"]},
        {"temperature": 0.5},
        {"max_new_tokens": 9},
        {"max_cases": 5},
        {"style": {"single_line": True}},
        {"policy": {"forbidden": ["x"]}},
        {"answer_schema": "schema.json"},
    ],
)
def test_all_that_a_report_depends_on_is_in_the_digest(
    changes: dict[str, Any], tmp_path: Path, store: Store, snapshot: Digest
) -> None:
    (tmp_path / "schema.json").write_text("{}")
    same = make_suite(recipe_with(tmp_path), store, snapshot)
    other = make_suite(recipe_with(tmp_path, **changes), store, snapshot)
    assert same.digest == make_suite(recipe_with(tmp_path), store, snapshot).digest
    assert same.digest != other.digest


@pytest.mark.parametrize("changes", [{"group": "other"}, {"slices": {"channel": "fax"}}])
def test_rows_are_in_the_digest(changes: dict[str, Any], recipe: Recipe, store: Store) -> None:
    before = put_snapshot(store, [row(0), row(1)])
    after = put_snapshot(store, [row(0), row(1, **changes)])
    assert make_suite(recipe, store, before).digest != make_suite(recipe, store, after).digest


def test_fewer_cases_are_the_same_fewer_cases(tmp_path: Path, store: Store) -> None:
    rows = [row(number) for number in range(40)]
    few = make_suite(recipe_with(tmp_path, max_cases=10), store, put_snapshot(store, rows))
    more = make_suite(recipe_with(tmp_path, max_cases=20), store, put_snapshot(store, rows[::-1]))
    assert len(few.cases) == 10
    assert {case.case_id for case in few.cases} <= {case.case_id for case in more.cases}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "The snapshot has no test rows"),
        ([row(0), row(0)], "1 of 2 test rows have the id of another"),
        ([row(0, messages=[{"role": "user", "content": "?"}])], "has no answer with a prompt before it"),
        ([row(0, messages=[{"role": "assistant", "content": "!"}])], "has no answer with a prompt before it"),
    ],
)
def test_rows_that_cannot_be_judged(rows: list[dict[str, Any]], words: str, recipe: Recipe, store: Store) -> None:
    with pytest.raises(EvaluationError, match=words):
        make_suite(recipe, store, put_snapshot(store, rows))


def test_a_primary_scorer_that_does_not_fit_is_refused_before_anything_is_answered(tmp_path: Path, store: Store) -> None:
    rows = [row(0), row(1, messages=[{"role": "user", "content": "?"}, {"role": "assistant", "content": "no JSON"}])]
    with pytest.raises(EvaluationError) as error:
        make_suite(recipe_with(tmp_path, primary="json_exact"), store, put_snapshot(store, rows))
    assert str(error.value) == (
        "'json_exact' applies to 1 of 2 cases only; not to 000000000000, for one. In [evaluate] primary.\n"
        "    Choose a scorer that fits every expectation, e.g. exact."
    )


def test_a_schema_that_is_not_there(tmp_path: Path, store: Store, snapshot: Digest) -> None:
    with pytest.raises(EvaluationError, match=r"'nowhere.json' cannot be read"):
        make_suite(recipe_with(tmp_path, answer_schema="nowhere.json"), store, snapshot)


def test_half_a_surrogate_pair_survives(recipe: Recipe, store: Store) -> None:
    messages = [{"role": "user", "content": "\ud800"}, {"role": "assistant", "content": json.dumps({"intent": "\udfff"})}]
    (case,) = make_suite(recipe, store, put_snapshot(store, [row(0, messages=messages)])).cases
    assert case.slices["intent"] == "\udfff"
