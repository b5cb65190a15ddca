"""The data card: what is said, what is called unsaid, and that nobody's words become its layout."""

from typing import Any

import pytest

from budwood.events import Event
from budwood.prepare.run import prepare
from budwood.prepare.stated import limits, personal_data

from .conftest import Bench

ROWS = [
    {"prompt": f"Question {letter * 9} by ann@example.org?", "completion": "yes" if letter < "k" else "no"}
    for letter in "abcdefghijklmnopqrst"
] + [{"prompt": "Call +44 20 7946 0958, who is it?", "completion": ""}]
STATED = {"origin": "our desk", "licence": "CC0-1.0", "labelling": "by hand"}


def card_of(bench: Bench, source: dict[str, Any], **section: Any) -> str:
    snapshot = bench.prepare({"path": bench.write("rows.jsonl", ROWS)} | source, **section)
    return bench.store.file(snapshot.digest, "card.md").read_text(encoding="utf-8")


def test_the_card_says_what_was_declared_and_what_was_not(bench: Bench) -> None:
    card = card_of(bench, {"origin": "our | <b>desk</b>", "licence": "CC0-1.0"})
    assert "21 rows read = 20 kept + 1 rejected." in card
    assert "* licence: declared: CC0-1.0; verified: not verified" in card
    assert "* origin: our \\| &lt;b>desk&lt;/b>" in card
    assert "* labelling assumptions: not stated" in card
    assert "## What is not stated\n\n**Warning.**" in card
    assert "\n* rows.jsonl: labelling\n" in card
    assert "| action = redact, kinds = " in card
    assert "Not measured: no tokenizer was given." in card


def test_where_all_is_stated_nothing_is_missing(bench: Bench) -> None:
    card = card_of(bench, {**STATED, "licence_verified": "Ann, at example.org/licence, 2026-03-01"})
    assert "What is not stated" not in card
    assert "declared: CC0-1.0; verified: Ann, at example.org/licence, 2026-03-01" in card


def test_lengths_and_labels_are_drawn(bench: Bench) -> None:
    card = card_of(bench, STATED, token_length=lambda messages, tools=(): 20, validation=0.0, test=0.0)
    assert "### Rows, in tokens after the base's template" in card
    assert f"| 16 to 23 | 20 | 0 | 0 | {'█' * 24} |" in card
    assert "### Answers, in characters" in card
    assert "2 different answers." in card
    assert "| no | 10 | 0 | 0 |\n| yes | 10 | 0 | 0 |" in card


def test_an_answer_cannot_break_the_table(bench: Bench) -> None:
    rows = [{"prompt": f"Question {letter * 9}?", "completion": "a | b\n<i>"} for letter in "abcdefghij"]
    snapshot = bench.prepare(bench.write("other.jsonl", rows), validation=0.0, test=0.0)
    assert "| a \\| b &lt;i> | 10 | 0 | 0 |" in bench.store.file(snapshot.digest, "card.md").read_text(encoding="utf-8")


def test_limits_follow_from_what_was_not_asked_for(bench: Bench) -> None:
    name = bench.write("rows.jsonl", ROWS)
    plain = bench.prepare(name, rules=["unicode"], labels=["yes", "no"], near_duplicate=0.7).body
    said = " ".join(limits(plain))
    assert "Jaccard 0.7 and more" in said
    assert "Personal data was not looked for" in said
    assert "no list of allowed labels" not in said
    assert personal_data(plain["rules"]).startswith("Kept rows were not looked through")
    full = bench.prepare(name).body
    assert "Personal data" not in " ".join(limits(full))
    assert "was redacted (20 rows)" in personal_data(full["rules"])


@pytest.mark.parametrize("options", [{"action": "off"}, {"action": "drop", "terms": 0}, {"action": "drop", "kinds": []}])
def test_a_rule_that_is_idle_finds_nothing(bench: Bench, options: dict[str, Any]) -> None:
    body = dict(bench.prepare(bench.write("rows.jsonl", ROWS)).body)
    for name in ("forbidden", "pii"):
        body["rules"] = [{"name": name, "options": options}]
        idle = " ".join(limits(body))
        body["rules"] = [{"name": name, "options": {"action": "drop", "terms": 2, "kinds": ["EMAIL"]}}]
        assert len(" ".join(limits(body))) < len(idle)
    assert personal_data([{"name": "pii", "options": {"kinds": []}}]).startswith("Kept rows were not looked through")


def test_what_is_not_stated_is_a_warning_at_the_end(bench: Bench) -> None:
    events: list[Event] = []
    bench.write("rows.jsonl", ROWS)
    prepare(bench.recipe("rows.jsonl"), bench.store, token_length=None, context=0, report=events.append)
    assert events[-2].message == "Not stated, as the data card says: rows.jsonl: origin, licence, labelling"
    prepare(bench.recipe({"path": "rows.jsonl", **STATED}), bench.store, token_length=None, context=0, report=events.append)
    assert not events[-2].message.startswith("Not stated")
