"""A row's story: every way in and every way out."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from budwood.data.forget import forget, make_wanted, survey
from budwood.data.rows import KeptRow, RejectedRow, kept_rows
from budwood.data.scores import score
from budwood.data.select import parse_top, select
from budwood.data.trained import successors, trained_on
from budwood.data.why import Story, matches, only, read_wanted, tell, touches
from budwood.errors import DataError, StoreError
from budwood.identity import Digest

from .conftest import Bench, put

PLACES = ("Bonn", "Cork", "Lyon", "Oslo", "Riga", "Rome", "Pisa", "Kiel", "Bath", "Nice", "Graz", "Brno")


def ask(number: int, answer: str = "", **more: Any) -> dict[str, Any]:
    """A row that no other is near to."""
    place = PLACES[number % len(PLACES)]
    prompt = f"Case {number * 7919} {place * 2}: how do I {place.lower()} {number * number + 11} {'xyzw'[number % 4] * 6}?"
    return {"prompt": prompt, "completion": answer or f"Do it {number}.", **more}


PLAIN = [ask(number) for number in range(12)]


def told(bench: Bench, snapshot: Digest, wanted: str) -> Story:
    (row,) = matches(bench.store, snapshot, read_wanted(wanted))
    return tell(bench.store, snapshot, row)


def rejected(story: Story) -> RejectedRow:
    assert isinstance(story.row, RejectedRow)
    assert story.placing is None
    return story.row


def test_an_untouched_row_was_hashed(bench: Bench) -> None:
    made = bench.prepare(bench.write("rows.jsonl", PLAIN))
    story = told(bench, made.digest, "rows.jsonl:3")
    assert isinstance(story.row, KeptRow)
    assert (story.row.line, story.row.touched, story.others, story.fell, story.compared) == (3, (), 0, {}, ())
    assert story.placing is not None
    assert (story.placing.why, story.placing.split) == ("hashed", story.row.split)
    assert story.source["path"] == "rows.jsonl"
    assert told(bench, made.digest, story.row.row_id[:9]).row == story.row


def test_what_rules_did_is_told_with_their_versions(bench: Bench) -> None:
    rows = [*PLAIN, ask(20, "Write to  ann@example.org")]
    made = bench.prepare(bench.write("rows.jsonl", rows))
    story = told(bench, made.digest, "rows.jsonl:13")
    assert isinstance(story.row, KeptRow)
    assert [(one.rule, one.kind) for one in story.row.touched] == [("pii", "changed")]
    assert story.rules["pii"]["version"] == next(rule["version"] for rule in made.body["rules"] if rule["name"] == "pii")
    assert "[EMAIL]" in str(story.as_dict()["row"])


@pytest.mark.parametrize(
    ("row", "section", "rule"),
    [
        (ask(20) | {"completion": " "}, {}, "empty_answer"),
        (ask(20, "maybe"), {"labels": ["yes", "no"], "max_malformed": 1.0}, "label"),
        (ask(20, "ann@example.org"), {"pii": "drop"}, "pii"),
        ({"prompt": {"a": 1}, "completion": "x"}, {"max_malformed": 0.5}, "read"),
    ],
)
def test_a_row_that_a_rule_rejected(bench: Bench, row: Mapping[str, Any], section: Mapping[str, Any], rule: str) -> None:
    plain = [one | {"completion": "yes"} for one in PLAIN]
    made = bench.prepare(bench.write("rows.jsonl", [*plain, row]), **section)
    story = told(bench, made.digest, "rows.jsonl:13")
    assert rejected(story).rule == rule
    assert story.rules[rule]["dropped"] == 1
    assert (story.compared, story.others, story.fell) == ((), 0, {})


def test_a_repeated_row_names_the_one_that_stayed_and_is_named_by_it(bench: Bench) -> None:
    near = PLAIN[1] | {"prompt": PLAIN[1]["prompt"] + "?"}
    made = bench.prepare(bench.write("rows.jsonl", [*PLAIN, PLAIN[0], near]), near_duplicate=0.6)
    for line, rule, kept in ((13, "exact_duplicate", 1), (14, "near_duplicate", 2)):
        story = told(bench, made.digest, f"rows.jsonl:{line}")
        assert rejected(story).rule == rule
        ((_, stayed),) = story.compared
        assert stayed.line == kept
        other = tell(bench.store, made.digest, stayed)
        assert dict(other.fell) == {rule: 1}
        assert [one.line for one in other.fallen] == [line]


def test_a_conflict_is_told_with_those_that_answer_otherwise(bench: Bench) -> None:
    rows = [*PLAIN, *(PLAIN[0] | {"completion": "No."} for _ in range(2)), PLAIN[1] | {"completion": "Other."}]
    made = bench.prepare(bench.write("rows.jsonl", rows))
    outvoted = told(bench, made.digest, "rows.jsonl:1")
    assert rejected(outvoted).rule == "conflict"
    assert [one.line for _, one in outvoted.compared] == [13]
    tied = told(bench, made.digest, "rows.jsonl:2")
    assert rejected(tied).reason.endswith("none of them with a majority")
    assert [(one.line, type(one)) for _, one in tied.compared] == [(15, RejectedRow)]


def test_a_leak_names_the_published_row(bench: Bench) -> None:
    near = {"prompt": PLAIN[1]["prompt"] + "?", "completion": "Other."}
    bench.write("rows.jsonl", [*PLAIN[2:], PLAIN[0] | {"completion": "Other."}, near])
    bench.write("test.jsonl", PLAIN[:2])
    made = bench.prepare("rows.jsonl", {"path": "test.jsonl", "split": "test"}, near_duplicate=0.6, validation=0.2)
    for line in (11, 12):
        story = told(bench, made.digest, f"rows.jsonl:{line}")
        assert rejected(story).rule == "leak"
        ((_, published),) = story.compared
        assert published.file == "test.jsonl"
        placing = tell(bench.store, made.digest, published).placing
        assert placing is not None
        assert (placing.why, placing.split) == ("published", "test")


def test_a_group_is_counted_and_its_first_rows_are_named(bench: Bench) -> None:
    rows = [row | {"customer": "a" if number < 9 else f"c{number}"} for number, row in enumerate(PLAIN)]
    made = bench.prepare(bench.write("rows.jsonl", rows), group_by="customer", validation=0.0, test=0.0)
    story = told(bench, made.digest, "rows.jsonl:4")
    assert story.others == 8
    assert [one.line for one in story.neighbours] == [1, 2, 3, 5, 6]
    assert told(bench, made.digest, "rows.jsonl:12").others == 0


def test_inheritance_is_followed_to_where_it_began(bench: Bench) -> None:
    first = bench.prepare(bench.write("rows.jsonl", PLAIN))
    second = bench.prepare(bench.write("rows.jsonl", [ask(40), *PLAIN]), onto=first.digest)
    third = bench.prepare(bench.write("rows.jsonl", [ask(41), ask(40), *PLAIN]), onto=second.digest)
    placing = told(bench, third.digest, "rows.jsonl:5").placing
    assert placing is not None
    assert (placing.why, placing.snapshot, placing.itself) == ("inherited", second.digest, True)
    assert placing.earlier is not None
    assert (placing.earlier.why, placing.earlier.snapshot) == ("inherited", first.digest)
    assert placing.earlier.earlier is not None
    assert placing.earlier.earlier.why == "hashed"
    assert placing.sentence().endswith("there: by the keyed hash of its group (split_seed 0)")
    newcomer = told(bench, third.digest, "rows.jsonl:1").placing
    assert newcomer is not None
    assert (newcomer.why, newcomer.snapshot) == ("new", second.digest)


def test_a_new_row_inherits_through_its_group(bench: Bench) -> None:
    first = bench.prepare(bench.write("rows.jsonl", PLAIN))
    akin = {"prompt": PLAIN[4]["prompt"] + "?", "completion": "Other."}
    second = bench.prepare(bench.write("rows.jsonl", [*PLAIN, akin]), onto=first.digest, near_duplicate=0.6)
    placing = told(bench, second.digest, "rows.jsonl:13").placing
    assert placing is not None
    assert (placing.why, placing.itself) == ("inherited", False)
    old = told(bench, first.digest, "rows.jsonl:5").row
    assert placing.row == old.row_id


def test_a_row_that_only_the_earlier_snapshot_holds_is_found_there(bench: Bench) -> None:
    first = bench.prepare(bench.write("rows.jsonl", PLAIN), test=0.5, validation=0.0)
    held = first.rows["test"][0]
    near = {"prompt": held["messages"][0]["content"] + "?", "completion": "Other."}
    rest = [row for row in PLAIN if row["prompt"] != held["messages"][0]["content"]]
    name = bench.write("more.jsonl", [*rest, near])
    second = bench.prepare({"path": name, "split": "train"}, onto=first.digest, near_duplicate=0.6, test=0.5, validation=0.0)
    story = told(bench, second.digest, "more.jsonl:12")
    assert rejected(story).reason.startswith(f"same group as test row {held['row_id']} of the earlier snapshot")
    assert [(at, one.row_id) for at, one in story.compared] == [(first.digest, held["row_id"])]
    new = bench.prepare({"path": bench.write("new.jsonl", PLAIN), "split": "train"})
    placing = told(bench, new.digest, "new.jsonl:1").placing
    assert placing is not None
    assert placing.sentence().endswith("; its source is never test")


def test_where_the_earlier_snapshot_is_gone_that_is_said(bench: Bench) -> None:
    first = bench.prepare(bench.write("rows.jsonl", PLAIN))
    second = bench.prepare(bench.write("rows.jsonl", [*PLAIN, ask(40)]), onto=first.digest)
    bench.store.tombstone(first.digest, who="anna", reason="a customer asked")
    placing = told(bench, second.digest, "rows.jsonl:5").placing
    assert placing is not None
    assert placing.why == "unknown"
    assert "whose rows were removed" in placing.sentence()


def test_what_learnt_from_a_snapshot_is_found_also_by_detours(bench: Bench) -> None:
    store = bench.store
    one = bench.prepare(bench.write("rows.jsonl", PLAIN)).digest
    two = bench.prepare(bench.write("other.jsonl", [ask(number) for number in range(50, 60)])).digest
    first, second, third = (put(store, "adapter", parents=[], rank=number) for number in range(3))
    run = put(store, "run", parents=[one, first], method="lora", steps=40, result=first)
    further = put(store, "run", parents=[two, second, first], method="lora", steps=5, result=second)
    elsewhere = put(store, "run", parents=[two, third], method="lora", steps=7, result=third)
    release = put(store, "release", parents=[one, run, first], run=run, name="support")
    later = put(store, "release", parents=[two, elsewhere, release], run=elsewhere, name="support", parent=release)
    mixed = put(store, "adapter", parents=[release], rank=9)
    composed = put(store, "run", parents=[mixed, release], method="compose", sources=[release], result=mixed)
    store.add_release("support", release, who="anna", reason="")
    store.move_alias("support", "production", release, who="anna", reason="")
    uses = {use.digest: use for use in trained_on(store, one)}
    assert uses.keys() == {run, further, release, composed}
    assert later not in uses
    assert [uses[digest].indirect for digest in (run, release, further, composed)] == [False, False, True, True]
    assert (uses[release].title, uses[release].aliases) == ("support@1", ("support@production",))
    assert uses[run].title == "lora, 40 steps"
    assert {use.digest for use in trained_on(store, two)} == {further, elsewhere, later}


def test_what_learnt_from_a_selection_learnt_from_the_rows_that_it_kept(bench: Bench) -> None:
    store = bench.store
    one = bench.prepare(bench.write("rows.jsonl", PLAIN), validation=0.0, test=0.0)
    chosen = select(store, one.digest, score(store, one.digest, by="length"), parse_top("5")).digest
    again = select(store, chosen, score(store, chosen, by="novelty"), parse_top("3")).digest
    adapter = put(store, "adapter", parents=[], rank=1)
    run = put(store, "run", parents=[again, adapter], method="lora", steps=4, result=adapter)
    assert successors(store, one.digest) == [chosen, again]
    assert [(use.digest, use.read, use.indirect) for use in trained_on(store, one.digest)] == [(run, again, False)]
    kept = {row.row_id for row in kept_rows(store, again)}
    assert len(kept) == 3
    for row in one.kept:
        uses = told(bench, one.digest, row["row_id"]).uses
        assert [use.digest for use in uses] == ([run] if row["row_id"] in kept else [])


def test_what_read_the_rows_before_others_were_taken_out_is_found(bench: Bench) -> None:
    store = bench.store
    before = bench.prepare(bench.write("rows.jsonl", PLAIN), validation=0.0, test=0.0)
    adapter = put(store, "adapter", parents=[], rank=1)
    run = put(store, "run", parents=[before.digest, adapter], method="lora", steps=4, result=adapter)
    now = before.digest
    for row in before.kept[:2]:
        new = forget(store, make_wanted(rows=[row["row_id"]]), who="ben", reason="request 17").replaced[now]
        assert new is not None
        now = new
    assert [(use.digest, use.read) for use in trained_on(store, now)] == [(run, before.digest)]
    found = survey(store, make_wanted(rows=[before.kept[2]["row_id"]])).trained
    assert (found.runs, found.results) == ({run: 1}, (adapter,))


def test_several_rows_may_be_meant(bench: Bench) -> None:
    for folder in ("a", "b"):
        (bench.folder / folder).mkdir()
        bench.write(f"{folder}/rows.jsonl", PLAIN[:6] if folder == "a" else PLAIN[6:])
    made = bench.prepare("a/rows.jsonl", "b/rows.jsonl", validation=0.0, test=0.0)
    found = only(bench.store, made.digest, read_wanted("rows.jsonl:2"), limit=9)
    assert [row.file for row in found] == ["a/rows.jsonl", "b/rows.jsonl"]
    for typed in ("b/rows.jsonl:2", "./b/rows.jsonl:2", "/home/ann/b/rows.jsonl:2"):
        assert [row.file for row in only(bench.store, made.digest, read_wanted(typed), limit=9)] == ["b/rows.jsonl"]
    ids = [row["row_id"] for row in (*made.kept, *made.rejected)]
    for length in (1, 2, 16):
        meant = only(bench.store, made.digest, read_wanted(ids[0][:length]), limit=99)
        assert {row.row_id for row in meant} == {one for one in ids if one.startswith(ids[0][:length])}


def test_a_row_that_was_taken_out_later_still_tells_what_was_done_to_it(bench: Bench) -> None:
    made = bench.prepare(bench.write("rows.jsonl", [*PLAIN, ask(20, "Write to ann@example.org")]), validation=0.0, test=0.0)
    (gone,) = (row for row in made.kept if row["touched"])
    with bench.store.draft("snapshot") as draft:
        for name in ("train", "validation", "test", "rejected"):
            rows = made.rejected if name == "rejected" else made.rows[name]
            held = [row for row in rows if row is not gone]
            held += [gone | {"rule": "select", "reason": "rank 13 of 13"}] if name == "rejected" else []
            (draft.folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held))
        digest = draft.commit(parents=[made.digest], body=dict(made.body))
    story = told(bench, digest, gone["row_id"])
    assert rejected(story).rule == "select"
    assert [one.rule for one in touches(story.row)] == ["pii"]
    assert "pii" in story.rules


@pytest.mark.parametrize("text", ["", "rows.jsonl:", "rows.jsonl:two", ":3", "row 3"])
def test_what_names_no_row_is_said(text: str) -> None:
    with pytest.raises(DataError, match="names no row"):
        read_wanted(text)


def test_a_row_that_is_not_there_is_said(bench: Bench) -> None:
    made = bench.prepare(bench.write("rows.jsonl", PLAIN))
    with pytest.raises(StoreError, match=r"has no row from rows\.jsonl line 99, neither kept nor rejected"):
        only(bench.store, made.digest, read_wanted("rows.jsonl:99"), limit=1)
