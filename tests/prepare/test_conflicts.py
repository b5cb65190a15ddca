"""Conflicts: found, decided on, and listed by id and place."""

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budwood.errors import DataError
from budwood.prepare.conflicts import Answers, Judged, folded, judge


def ask(prompt: str, answer: str) -> dict[str, Any]:
    return {"prompt": prompt, "completion": answer}


OTHERS = [ask(f"{chr(97 + i % 26) * 7}{i * i} {chr(97 + i * 7 % 26) * 9}{i}?", f"answer {i}") for i in range(9)]


def listed(bench: Any, snapshot: Any) -> list[dict[str, Any]]:
    path = bench.store.folder(snapshot.digest) / "conflicts.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def places(conflict: dict[str, Any]) -> list[list[int]]:
    return [[row["line"] for row in answer["rows"]] for answer in conflict["answers"]]


@pytest.mark.parametrize(
    ("policy", "decisions"),
    [
        ("majority", ["all dropped: no answer has a majority", "the majority's kept"]),
        ("drop", ["all dropped", "all dropped"]),
        ("keep", ["all kept", "all kept"]),
    ],
)
def test_every_conflict_is_listed_with_what_was_decided_label_conflicts_first(
    bench: Any, policy: str, decisions: list[str]
) -> None:
    rows = [ask("What is this?", answer) for answer in ("It is a kettle, of the red kind.", "It is a pan.", "It is a pan.")]
    rows += [ask("And that?", "refund"), ask("And that?", "repair")]
    rows += [ask(f"{row['prompt']} Now?", "refund") for row in OTHERS[:3]]
    snapshot = bench.prepare(bench.write("rows.jsonl", rows), conflicts=policy, validation=0, test=0)
    found = listed(bench, snapshot)
    assert [one["kind"] for one in found] == ["label", "text"]
    assert [one["decision"] for one in found] == decisions
    assert [places(one) for one in found] == [[[4], [5]], [[2, 3], [1]]]
    assert [answer["count"] for answer in found[1]["answers"]] == [2, 1]
    assert {row["file"] for answer in found[0]["answers"] for row in answer["rows"]} == {"rows.jsonl"}
    assert snapshot.body["conflicts"] == {
        "listed": 2,
        "of_labels": 1,
        "rows": 2,
        "test_rows": 0,
        "rows_and_test_rows": 0,
        "near": 0,
    }
    ids = {row["row_id"] for row in (*snapshot.kept, *snapshot.rejected)}
    assert {row["row_id"] for one in found for answer in one["answers"] for row in answer["rows"]} <= ids
    assert "kettle" not in json.dumps(found)


def test_answers_that_differ_in_looks_alone_are_no_conflict_and_vote_together(bench: Any) -> None:
    rows = [ask("Is it open today?", answer) for answer in ("Yes.", "yes", "YES!")]
    rows += [ask("And tomorrow?", answer) for answer in ("Yes.", "yes", "No")]
    snapshot = bench.prepare(bench.write("rows.jsonl", [*rows, *OTHERS]), validation=0, test=0)
    assert snapshot.reasons() == {6: ("conflict", snapshot.reasons()[6][1])}
    assert "2 of 3 rows answer as row" in snapshot.reasons()[6][1]
    assert [places(one) for one in listed(bench, snapshot)] == [[[4, 5], [6]]]
    assert any(
        "1 prompts have answers that differ in case or punctuation alone" in note for note in snapshot.body["groups"]["notes"]
    )


def test_a_stop_names_ten_and_lists_all(bench: Any) -> None:
    rows = [ask(f"{row['prompt']} {n}?", answer) for n in range(2) for row in OTHERS for answer in ("refund", "repair")]
    with pytest.raises(DataError) as caught:
        bench.prepare(bench.write("rows.jsonl", rows), conflicts="stop")
    assert caught.value.what.startswith("18 prompts have different answers: rows.jsonl line 1 and rows.jsonl line 2; ")
    assert caught.value.what.count("; ") == 10
    path = Path(caught.value.mend.removeprefix("All are listed in ").split(". ")[0])
    assert len(path.read_text(encoding="utf-8").splitlines()) == 18
    assert path.is_relative_to(bench.store.root)


def test_what_differs_from_a_published_test_row_is_listed_too(bench: Any) -> None:
    train = bench.write("train.jsonl", [ask("Where is my card?", "arrival"), ask("Where is it?", "delivery"), *OTHERS])
    test = bench.write(
        "test.jsonl", [ask("Where is my card?", "lost"), ask("Ann?", "a"), ask("Ann?", "b"), ask("Where is it?", "delivery")]
    )
    snapshot = bench.prepare({"path": train, "split": "train"}, {"path": test, "split": "test"}, conflicts="keep")
    found = {one["between"]: one for one in listed(bench, snapshot)}
    assert found.keys() == {"rows and test rows", "test rows"}
    across = found["rows and test rows"]
    assert [[row["file"] for row in answer["rows"]] for answer in across["answers"]] == [["train.jsonl"], ["test.jsonl"]]
    assert across["decision"] == "the test rows stay, the others go as leaks"
    assert snapshot.reasons()[1][0] == "leak"
    assert "between rows and a published test file" in bench.store.file(snapshot.digest, "card.md").read_text()


def test_labels_that_disagree_among_near_duplicates_are_listed_and_nothing_goes(bench: Any) -> None:
    text = "the parcel with my new kettle has still not arrived at the office in the old town"
    near = [ask(text, "delivery"), ask(f"{text}!", "refund"), ask(f"{text}!!", "delivery")]
    other = {**ask(f"{text}?", "lieferung"), "system": "Answer in German."}
    common = [ask(f"{row['prompt']} Now?", "delivery") for row in OTHERS[:3]]
    texts = [
        ask(f"{row['prompt']} {mark}", f"a text of more words than labels have, {mark}") for row in OTHERS[:1] for mark in "ab"
    ]
    snapshot = bench.prepare(bench.write("rows.jsonl", [*near, other, *common, *texts]), validation=0, test=0)
    (found,) = listed(bench, snapshot)
    assert (found["prompts"], found["kind"], found["between"]) == ("near", "label", "rows")
    assert places(found) == [[1, 3], [2]]
    assert found["decision"].startswith("all kept")
    assert {rule for rule, _ in snapshot.reasons().values()} == {"near_duplicate"}
    assert snapshot.body["conflicts"]["near"] == 1
    assert "* 1 groups of near-duplicates" in bench.store.file(snapshot.digest, "card.md").read_text()


def test_without_a_conflict_there_is_no_list(bench: Any) -> None:
    snapshot = bench.prepare(bench.write("rows.jsonl", OTHERS))
    assert listed(bench, snapshot) == []
    assert "conflicts" not in snapshot.body


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("yes.", "yes", True),
        ("“yes”", "'yes'", True),
        ("yes!", "yes", True),
        ("yes, sure", "yes sure", True),
        ("5.00", "500", False),
        ("5!", "5", False),
        ("-5", "5", False),
        (".5", "5", False),
        ("3:2", "32", False),
        ("a - b", "a b", False),
        ('{"a": "1"}', '{"a": 1}', False),
        ("x = 'a'", "x = a", False),
        ("?", "!", False),
    ],
)
def test_which_answers_are_the_same(first: str, second: str, same: bool) -> None:
    assert (folded(first) == folded(second)) == same


ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["yes", "yes.", "no", "a longer answer than labels ever are"]), st.booleans()),
    max_size=25,
)


@given(ROWS, st.sampled_from(["majority", "drop", "keep"]))
@settings(max_examples=200, deadline=None)
def test_conflicts_are_those_that_a_plain_search_finds(rows: list[tuple[int, str, bool]], policy: Any) -> None:
    judged = judged_of(rows, policy)
    expected = {}
    for between, wanted in (("rows", {False}), ("test rows", {True}), ("rows and test rows", {False, True})):
        for prompt in range(4):
            mine = [i for i, row in enumerate(rows) if row[0] == prompt and row[2] in wanted]
            if len({folded(rows[i][1]) for i in mine}) > 1 and {rows[i][2] for i in mine} == wanted:
                expected[between, prompt] = mine
    assert {(one.between, rows[one.rows[0]][0]): one.rows for one in judged.conflicts} == expected
    assert len(judged.conflicts) == len(expected)
    for one in judged.conflicts:
        sizes = [len(answer) for answer in one.answers]
        assert sizes == sorted(sizes, reverse=True)
        if one.between == "rows" and policy == "majority" and sizes[0] > sizes[1]:
            assert set(one.out) == set(one.rows) - set(one.answers[0])
        elif one.between == "rows":
            assert set(one.out) == (set() if policy == "keep" else set(one.rows))


def judged_of(rows: list[tuple[int, str, bool]], policy: Any) -> Judged:
    keys = {text: number for number, text in enumerate(dict.fromkeys(row[1] for row in rows))}
    answers = Answers(
        prompt=numpy.array([row[0] for row in rows], numpy.int64),
        answer=numpy.array([keys[row[1]] for row in rows], numpy.int64),
        published=numpy.array([row[2] for row in rows], bool),
        leaks=numpy.zeros(len(rows), bool),
        text=lambda i: rows[i][1],
        row_id=str,
        task=lambda i: "",
    )
    return judge(answers, policy, ())
