"""The stage: what a report holds, that it says the same each time, and what stays out of its digest."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate.conftest import answers_of, gold, number_of, put, put_snapshot, recipe_with, right, row

from budwood.errors import EvaluationError
from budwood.evaluate.report import Report, load_report
from budwood.evaluate.run import Subject, evaluate
from budwood.evaluate.suite import Case, make_suite
from budwood.events import Event
from budwood.identity import Digest
from budwood.recipe import Recipe
from budwood.store import Store

Make = Callable[..., Report]


def test_a_report_keeps_every_answer_and_every_score(report_of: Make) -> None:
    def output(case: Case) -> str:
        return case.expected if number_of(case) % 2 else '{"intent": "refund", "order": -1}'

    report = report_of(output)
    assert [case["case_id"] for case in report.cases] == [f"{number:064x}" for number in range(12)]
    wrong = report.cases[3 - 1]
    assert wrong["output"] == '{"intent": "refund", "order": -1}'
    assert wrong["expected"] == gold(2)
    assert wrong["prompt"][-1] == {"role": "user", "content": "Ticket 2"}
    assert wrong["scores"]["exact"] == 0.0
    assert wrong["scores"]["json_fields"] == 0.0
    assert wrong["fields"] == {"intent": 0.0, "order": 0.0}
    assert report.metrics["exact"] == 0.5
    assert report.metrics["json_fields"] == pytest.approx((6 + 2 * 0.5) / 12)
    assert report.summary["applies"]["exact"] == 12
    assert report.summary["slices"]["channel"]["mail"]["metrics"]["exact"] == 1.0
    assert report.summary["slices"]["intent"]["refund"]["cases"] == 4
    assert report.summary["fields"] == {"intent": pytest.approx(8 / 12), "order": 0.5}
    assert report.subject["kind"] == "adapter"
    assert report.scorers == {"exact": 1, "json_fields": 1, "chrf": 1}
    assert report.decoding == {"temperature": 0.0, "max_new_tokens": 128, "seed": 0}


def test_broken_rules_are_counted_by_name(store: Store, tmp_path: Path, report_of: Make) -> None:
    (tmp_path / "schema.json").write_text(json.dumps({"required": ["intent"], "type": "object"}))
    recipe = recipe_with(
        tmp_path,
        answer_schema="schema.json",
        style={"single_line": True},
        policy={"forbidden": ["as an AI"], "personal_data": True},
    )
    outputs = {0: "As an ai\nI write to ann@example.org", 1: '{"other": 1}', 2: ""}
    report = report_of(lambda case: outputs.get(number_of(case), case.expected), recipe=recipe)
    assert report.summary["broken"] == {
        "style": {"single_line": 1},
        "policy": {"forbidden: as an AI": 1, "personal data: EMAIL": 1},
        "flags": {"empty": 1},
    }
    assert report.metrics["schema errors"] == pytest.approx(3 / 12)
    assert report.metrics["policy violations"] == pytest.approx(1 / 12)
    assert [case["schema_ok"] for case in report.cases[:4]] == [False, False, False, True]


def test_the_same_answers_are_the_same_report_whatever_they_took(report_of: Make, store: Store) -> None:
    fast, slow = report_of(right, seconds=0.1), report_of(right, seconds=9.0)
    assert fast.digest == slow.digest
    assert slow.latency["seconds_per_token_median"] == pytest.approx(1.0)
    assert [one["latency"]["total_p50"] for one in store.attestations(fast.digest)] == [0.2, 9.1]
    assert report_of(lambda case: "wrong").digest != fast.digest
    assert report_of(right, name="another adapter").digest != fast.digest


def test_the_order_of_the_rows_does_not_change_the_figures(store: Store, recipe: Recipe, report_of: Make) -> None:
    def output(case: Case) -> str:
        return case.expected[: 10 + number_of(case)]

    rows = [row(number) for number in range(12)]
    forth = report_of(output, snapshot=put_snapshot(store, rows))
    back = report_of(output, snapshot=put_snapshot(store, rows[::-1]))
    assert forth.summary == back.summary


@pytest.mark.parametrize(
    "output",
    ["\ud800 half a pair", "<script>alert(1)</script>", "\x1b[31mred\x00", "[" * 200_000, "x" * 3_000_000, "=1+1", "{" * 70],
)
def test_hostile_answers_are_kept_as_they_came(output: str, report_of: Make, store: Store) -> None:
    report = report_of(lambda case: output if number_of(case) == 0 else case.expected)
    assert report.cases[0]["output"] == output
    assert report.metrics["exact"] == pytest.approx(11 / 12)
    assert store.verify().ok


def test_progress_is_told_case_by_case(store: Store, recipe: Recipe, snapshot: Digest) -> None:
    events: list[Event] = []
    subject = Subject("base", put(store, "base", body={"id": "b"}), "none", "float32")
    suite = make_suite(recipe, store, snapshot)
    evaluate(recipe, store, snapshot, suite, subject, answer=answers_of(right), report=events.append)
    assert [(event.done, event.total) for event in events] == [(done, 12) for done in range(13)]
    assert events[0].message == "Answering as base"


def test_a_missing_answer_is_an_error_and_leaves_nothing(store: Store, recipe: Recipe, snapshot: Digest) -> None:
    def forgetful(*given: Any) -> list[Any]:
        return list(answers_of(right)(*given))[1:]

    subject = Subject("base", put(store, "base", body={"id": "b"}), "none", "float32")
    suite = make_suite(recipe, store, snapshot)
    with pytest.raises(EvaluationError, match="12 cases have 11 answers"):
        evaluate(recipe, store, snapshot, suite, subject, answer=forgetful)
    assert list(store.objects("report")) == []


def test_a_schema_that_is_none_is_refused_before_anything_is_answered(store: Store, tmp_path: Path, snapshot: Digest) -> None:
    schema = '{"type": "frob"}'
    (tmp_path / "schema.json").write_text(schema)
    with pytest.raises(EvaluationError, match="no JSON Schema"):
        make_suite(recipe_with(tmp_path, answer_schema="schema.json"), store, snapshot)
    recipe = recipe_with(tmp_path)
    asked: list[str] = []

    def output(case: Case) -> str:
        asked.append(case.case_id)
        return ""

    subject = Subject("base", put(store, "base", body={"id": "b"}), "none", "float32")
    suite = replace(make_suite(recipe, store, snapshot), schema=schema)
    with pytest.raises(EvaluationError, match="no JSON Schema"):
        evaluate(recipe, store, snapshot, suite, subject, answer=answers_of(output))
    assert asked == []


def test_only_a_report_is_read_as_one(store: Store, snapshot: Digest) -> None:
    with pytest.raises(EvaluationError, match="is a snapshot, not a report"):
        load_report(store, snapshot)


@pytest.mark.parametrize(
    ("lines", "words"),
    [(b"no JSON\n", "a line is no case"), (b"{}\n", "a line is no case"), (b'{"case_id": "a"}\n' * 2, "a case is there twice")],
)
def test_a_report_that_is_none_inside(lines: bytes, words: str, store: Store) -> None:
    digest = put(store, "report", {"cases.jsonl": lines, "summary.json": b"{}"})
    with pytest.raises(EvaluationError, match=words):
        load_report(store, digest)
