"""A snapshot of made-up tickets, and answers that are known beforehand."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from budwood.evaluate.answering import Answer
from budwood.evaluate.report import Report, load_report
from budwood.evaluate.run import Subject, evaluate
from budwood.evaluate.score import AnswerRecord
from budwood.evaluate.suite import Case, Decoding, make_suite
from budwood.identity import Digest
from budwood.recipe import Recipe, recipe_from_mapping
from budwood.store import Kind, Store, open_store

INTENTS = ("refund", "delivery", "repair")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / ".budwood") as opened:
        yield opened


def put(store: Store, kind: Kind, files: Mapping[str, bytes] | None = None, **parts: Any) -> Digest:
    with store.draft(kind) as draft:
        for name, data in (files or {}).items():
            (draft.folder / name).write_bytes(data)
        return draft.commit(**parts)


def gold(number: int) -> str:
    return json.dumps({"intent": INTENTS[number % 3], "order": number})


def row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "row_id": f"{number:064x}",
        "messages": [
            {"role": "system", "content": "Triage."},
            {"role": "user", "content": f"Ticket {number}"},
            {"role": "assistant", "content": gold(number)},
        ],
        "group": f"group {number // 2}",
        "split": "test",
        "slices": {"channel": "mail" if number % 2 else "app"},
    } | changes


def put_snapshot(store: Store, rows: Sequence[Mapping[str, Any]]) -> Digest:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    return put(store, "snapshot", {"test.jsonl": lines.encode()}, body={"name": "tickets"})


def recipe_with(folder: Path, **evaluate: Any) -> Recipe:
    sections = {"primary": "exact", "scorers": ["json_fields", "chrf"], "slice_by": ["channel", "intent"]} | evaluate
    return recipe_from_mapping({"name": "tickets", "source": [{"path": "x.jsonl"}], "evaluate": sections}, folder=folder)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return recipe_with(tmp_path)


@pytest.fixture
def snapshot(store: Store) -> Digest:
    return put_snapshot(store, [row(number) for number in range(12)])


def answers_of(output: Callable[[Case], str], *, seconds: float = 0.5) -> Answer:
    """An answering function that gives `output(case)`, ten tokens each."""

    def answer(cases: Sequence[Case], decoding: Decoding, progress: Callable[[int, int], None]) -> list[AnswerRecord]:
        records = []
        for place, case in enumerate(cases, start=1):
            records.append(AnswerRecord(output(case), "stop", 10, 0.1, seconds))
            progress(place, len(cases))
        return records

    return answer


Reporter = Callable[..., Report]


@pytest.fixture
def report_of(store: Store, recipe: Recipe, snapshot: Digest) -> Reporter:
    """Evaluate a made-up subject that answers as told."""

    def make(output: Callable[[Case], str], *, name: str = "adapter", recipe: Recipe = recipe, **parts: Any) -> Report:
        suite = make_suite(recipe, store, parts.get("snapshot", snapshot))
        subject = Subject("adapter", put(store, "adapter", {"weights": name.encode()}), "none", "float32")
        answer = answers_of(output, seconds=parts.get("seconds", 0.5))
        return load_report(store, evaluate(recipe, store, parts.get("snapshot", snapshot), suite, subject, answer=answer))

    return make


def right(case: Case) -> str:
    return case.expected


def number_of(case: Case) -> int:
    return int(case.case_id, 16)
