"""The snapshot: what is in it, that it is the same for the same input, and that it says nothing it must not."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from budwood.errors import DataError
from budwood.events import Event
from budwood.identity import digest_file, digest_json
from budwood.prepare.run import prepare
from budwood.store import open_store

ROWS = [
    {"prompt": f"Question {letter * 9} by ann@example.org?", "completion": f"Lisbon {letter}", "channel": "web"}
    for letter in "abcdefghijklmnopqrst"
] + [{"prompt": "Call +44 20 7946 0958, who is it?", "completion": ""}]


def test_a_kept_row_has_the_form_of_the_contract(bench: Any) -> None:
    name = bench.write("rows.jsonl", ROWS)
    snapshot = bench.prepare({"path": name, "weight": 2.0}, system="Answer.", validation=0.0, test=0.0)
    sha256 = digest_file(bench.folder / name)
    assert snapshot.rows["train"][0] == {
        "row_id": digest_json([sha256, 1])[:16],
        "messages": [
            {"role": "system", "content": "Answer."},
            {"role": "user", "content": "Question aaaaaaaaa by [EMAIL]?"},
            {"role": "assistant", "content": "Lisbon a"},
        ],
        "source": {"file": "rows.jsonl", "sha256": sha256, "line": 1},
        "group": snapshot.rows["train"][0]["group"],
        "split": "train",
        "slices": {"channel": "web"},
        "weight": 2.0,
        "touched": [{"rule": "pii", "kind": "changed", "reason": "1 e-mail address redacted"}],
    }


def test_an_answer_that_is_not_to_be_learnt_stays_marked(bench: Any) -> None:
    def row(letter: str) -> dict[str, Any]:
        turns = [("user", f"Ask {letter * 9} at ann@example.org?", {}), ("assistant", f"First {letter}", {"weight": 0})]
        turns += [("user", f"And {letter * 8}?", {}), ("assistant", f"Second {letter}", {"weight": 1})]
        return {"messages": [{"role": role, "content": content, **said} for role, content, said in turns]}

    snapshot = bench.prepare(bench.write("rows.jsonl", [row(letter) for letter in "abcdefghij"]), system="", validation=0.0)
    messages = snapshot.rows["train"][0]["messages"]
    assert [message.get("train", True) for message in messages] == [True, False, True, True]
    assert "[EMAIL]" in messages[0]["content"]
    assert not any("weight" in message for message in messages)


def test_only_last_answers_are_learnt_where_the_recipe_says_so(bench: Any) -> None:
    turns = [("user", "Ask"), ("assistant", "First"), ("user", "And"), ("assistant", "Second")]
    rows = [
        {"messages": [{"role": role, "content": f"{content} {letter * 9}"} for role, content in turns]}
        for letter in "abcdefghij"
    ]
    name = bench.write("rows.jsonl", rows)
    last = bench.prepare(name, system="", validation=0.0, supervise="last")
    assert [message.get("train", True) for message in last.rows["train"][0]["messages"]] == [True, False, True, True]
    every = bench.prepare(name, system="", validation=0.0)
    assert not any("train" in message for row in every.rows["train"] for message in row["messages"])
    assert "supervise" not in every.body["settings"]
    assert last.body["settings"]["supervise"] == "last"


def test_a_rejected_row_is_redacted_though_no_rule_saw_it(bench: Any) -> None:
    snapshot = bench.prepare(bench.write("rows.jsonl", ROWS), system="")
    assert snapshot.rejected == [
        {
            "row_id": snapshot.rejected[0]["row_id"],
            "source": snapshot.rejected[0]["source"],
            "rule": "empty_answer",
            "reason": "an empty answer",
            "messages": [{"role": "user", "content": "Call [PHONE], who is it?"}, {"role": "assistant", "content": ""}],
        }
    ]


def test_a_malformed_line_is_kept_raw_and_redacted(bench: Any) -> None:
    (bench.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS) + '{"from": "ann@example.org"\n')
    snapshot = bench.prepare("rows.jsonl", max_malformed=0.1)
    (malformed,) = [row for row in snapshot.rejected if row["rule"] == "read"]
    assert malformed["raw"] == '{"from": "[EMAIL]"'
    assert malformed["source"]["line"] == len(ROWS) + 1


def test_no_byte_of_the_store_holds_what_was_redacted(bench: Any) -> None:
    bench.prepare(bench.write("rows.jsonl", ROWS))
    for path in bench.store.root.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"ann@example.org" not in data
            assert b"7946" not in data


def test_the_same_input_gives_the_same_digest_in_another_folder_and_store(bench: Any, tmp_path: Path) -> None:
    first = bench.prepare(bench.write("rows.jsonl", ROWS))
    again = bench.prepare("rows.jsonl")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "rows.jsonl").write_bytes((bench.folder / "rows.jsonl").read_bytes())
    recipe = bench.recipe("rows.jsonl").model_copy(update={"folder": elsewhere})
    with open_store(tmp_path / "other") as store:
        assert prepare(recipe, store, token_length=None, context=0) == first.digest == again.digest


def test_another_split_seed_is_another_snapshot(bench: Any) -> None:
    name = bench.write("rows.jsonl", ROWS)
    assert bench.prepare(name, split_seed=1).digest != bench.prepare(name, split_seed=2).digest


def test_counts_add_up_and_every_rule_is_accounted_for(bench: Any) -> None:
    snapshot = bench.prepare(bench.write("rows.jsonl", [*ROWS, ROWS[0]]))
    counts = snapshot.body["counts"]
    assert counts["read"] == 22 == counts["kept"] + counts["rejected"]
    assert counts["kept"] == counts["train"] + counts["validation"] + counts["test"] == len(snapshot.kept)
    rules = {rule["name"]: rule for rule in snapshot.body["rules"]}
    assert rules["pii"]["changed"] == 20
    assert {name: rule["dropped"] for name, rule in rules.items() if rule["dropped"]} == {
        "empty_answer": 1,
        "exact_duplicate": 1,
    }
    assert sum(rule["dropped"] for rule in rules.values()) == counts["rejected"]


def test_lengths_are_measured_by_the_function_that_is_handed_in(bench: Any) -> None:
    def characters(messages: list[dict[str, Any]], tools: Sequence[Any] = ()) -> int:
        return sum(len(message["content"]) for message in messages)

    rows = [*ROWS[:20], {"prompt": "long " * 50, "completion": "x"}]
    snapshot = bench.prepare(bench.write("rows.jsonl", rows), token_length=characters, context=100, validation=0.0, test=0.0)
    assert snapshot.body["lengths"] == {
        "train": {"rows": 20, "total": 760, "min": 38, "p50": 38, "p90": 38, "p99": 38, "max": 38}
    }
    assert snapshot.reasons()[21] == ("length", "250 tokens, the limit is 100")
    with pytest.raises(DataError, match="250 tokens long, the limit is 100"):
        bench.prepare("rows.jsonl", token_length=characters, context=100, too_long="error")


def test_too_few_groups_for_a_split_is_said(bench: Any) -> None:
    rows = [row | {"completion": "x", "kind": "one"} for row in ROWS]
    snapshot = bench.prepare(bench.write("rows.jsonl", rows), group_by="kind", split_seed=0)
    notes = " ".join(snapshot.body["groups"]["notes"])
    assert "No group fell into test" in notes
    assert "The largest group holds 21 of 21 rows" in notes


def test_events_tell_of_progress_and_show_no_text(bench: Any) -> None:
    events: list[Event] = []
    recipe = bench.recipe(bench.write("rows.jsonl", ROWS))
    prepare(recipe, bench.store, token_length=None, context=0, report=events.append)
    assert events[0].message == "Reading rows.jsonl"
    assert (events[-1].done, events[-1].total, events[-1].unit) == (21, 21, "rows")
    assert all("Question" not in repr(event) for event in events)


LINES = st.one_of(
    st.builds(
        lambda p, c, x: json.dumps({"prompt": p, "completion": c, "x": x}),
        st.text(max_size=30),
        st.one_of(st.none(), st.text(max_size=10), st.sampled_from(["n/a", "yes", "no"])),
        st.one_of(st.none(), st.integers(), st.text(max_size=5)),
    ),
    st.sampled_from(["{", "[]", "7", '{"prompt": 1}', '{"prompt": "a", "prompt": "b"}', '{"completion": "x"}']),
    st.builds(lambda text: text.replace("\n", " ").replace("\r", " "), st.text(min_size=1, max_size=20)),
)
FIXED = "".join(json.dumps({"prompt": f"{letter * 12} is it", "completion": "yes"}) + "\n" for letter in "abcdefgh")


@given(st.lists(LINES, max_size=12))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_kept_and_rejected_are_what_was_read(bench: Any, lines: list[str]) -> None:
    data = (FIXED + "\n".join(lines) + "\n").encode("utf-8", "surrogatepass")
    (bench.folder / "rows.jsonl.gz").write_bytes(gzip.compress(data, mtime=0))
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return
    snapshot = bench.prepare("rows.jsonl.gz", max_malformed=1.0, validation=0.0, test=0.0)
    full = [line for line in data.decode("utf-8").split("\n") if line.strip()]
    assert snapshot.body["counts"]["read"] == len(full) == len(snapshot.kept) + len(snapshot.rejected)
    ids = [row["row_id"] for row in (*snapshot.kept, *snapshot.rejected)]
    assert len(set(ids)) == len(ids)


def test_what_no_row_can_hold_is_said(bench: Any) -> None:
    turns = [
        {"role": "user", "content": "Ask aaaa", "name": "ann"},
        {"role": "assistant", "content": "So.", "reasoning_content": "Hm."},
    ]
    rows = [
        {"messages": turns, "meta": {"a": 1}},
        *({"messages": [{"role": "user", "content": f"{c * 9}?"}, turns[1]]} for c in "bcdef"),
    ]
    spoken = [{"conversations": [{"from": "human", "value": "Ask zzzz", "id": "1"}, {"from": "gpt", "value": "So.", "id": ""}]}]
    events: list[Event] = []
    recipe = bench.recipe(bench.write("rows.jsonl", rows), bench.write("spoken.jsonl", spoken), validation=0.0, test=0.0)
    digest = prepare(recipe, bench.store, token_length=None, context=0, report=events.append)
    sources = bench.store.manifest(digest).body["sources"]
    assert [source["left_out"] for source in sources] == [
        ["meta", "messages[].name", "messages[].reasoning_content"],
        ["conversations[].id"],
    ]
    assert "Left out of spoken.jsonl, since no row can hold it: conversations[].id" in [event.message for event in events]


def test_a_source_of_which_no_row_is_kept_is_said(bench: Any) -> None:
    bench.write("rows.jsonl", [{"prompt": f"{n * 7919 % 997} lost?", "completion": "a"} for n in range(30)])
    bench.write(
        "none.jsonl", [{"prompt": f"who {n}?", "completion": ""} for n in range(3)] + [{"prompt": "0 lost?", "completion": "a"}]
    )
    events: list[Event] = []
    recipe = bench.recipe("rows.jsonl", "none.jsonl")
    prepare(recipe, bench.store, token_length=None, context=0, report=events.append)
    said = [event.message for event in events if event.message.startswith("No row of")]
    assert said == ["No row of none.jsonl was kept, of 4: 3 by empty_answer, 1 by what other rows say"]


def test_the_digest_is_the_one_that_other_machines_gave(bench: Any) -> None:
    """Made on Zen 4, and on an emulated Haswell without a compiler. A change that means to give another raises `VERSION`."""
    words = [f"{a}{b}" for a in ("ka", "lo", "mi", "nu", "pe", "ti") for b in ("ran", "sel", "dor", "vim", "bat", "lum", "gof")]
    rows = [
        {
            "prompt": " ".join(words[(place * (7 + number % 31) + number * number) % len(words)] for place in range(60)),
            "completion": ("n/a", "", "It’s done — naïvely, for 12 €.")[number % 3]
            if number % 40 == 0
            else f"Answer {number}.",
            "channel": "abc"[number % 3],
        }
        for number in range(400)
    ]
    rows += [row | {"prompt": f"{row['prompt']} again"} for row in rows[:40]] + rows[40:60]
    snapshot = bench.prepare(bench.write("rows.jsonl", rows))
    assert len(snapshot.kept) < 400
    assert snapshot.digest[:16] == "a44091cfad3eefe9"
