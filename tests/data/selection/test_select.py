"""A selection is a snapshot like any other: nothing is lost, nothing held out moves, later data find every row's side."""

import json
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.selection.conftest import FILES, Desk, sums

from budwood.data.scores import score
from budwood.data.select import parse_top, select
from budwood.data.successor import Change, write_successor
from budwood.errors import DataError

LETTERS = "kettleteapotsaucerspooncupplatebowlforkjugpanlidtray"


@pytest.mark.parametrize(
    ("text", "rows", "number"),
    [("20%", 4000, 800), ("20%", 8, 2), ("20%", 7, 1), ("12.5 %", 4, 1), ("12.5%", 20, 3), ("0.01%", 10, 1), ("100%", 7, 7),
     ("500", 1000, 500), ("1,500", 2000, 1500)],
)  # fmt: skip
def test_a_share_is_rounded_to_the_nearest_and_never_to_none(text: str, rows: int, number: int) -> None:
    assert parse_top(text).of(rows) == number


@settings(deadline=None)
@given(st.integers(1, 100), st.integers(1, 10**6))
def test_a_share_is_exact(share: int, rows: int) -> None:
    assert parse_top(f"{share}%").of(rows) == max(1, (2 * share * rows + 100) // 200)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0", "'0' selects nothing."),
        ("0%", "0% is no share of the rows."),
        ("120%", "120% is no share of the rows."),
        ("a fifth", "'a fifth' is no number of rows."),
        ("-5", "'-5' is no number of rows."),
    ],
)
def test_no_number_of_rows(text: str, said: str) -> None:
    with pytest.raises(DataError) as error:
        parse_top(text)
    assert error.value.what == said


def test_the_selection_is_a_snapshot_with_nothing_lost(desk: Desk) -> None:
    rows = [*sums(1, 60), {"prompt": "no answer", "completion": ""}]
    parent = desk.snapshot(rows)
    scored = score(desk.store, parent, by="length")
    made = select(desk.store, parent, scored, parse_top("25%"))
    before, after = desk.store.manifest(parent), desk.store.manifest(made.digest)
    counts, old = after.body["counts"], before.body["counts"]
    left = old["train"] - made.kept
    assert counts == old | {
        "kept": old["kept"] - left, "rejected": old["rejected"] + left, "train": made.kept
    }  # fmt: skip
    assert counts["kept"] + counts["rejected"] == counts["read"] == 60
    assert after.parents == (parent,)
    for name in ("validation.jsonl", "test.jsonl"):
        assert desk.store.file(made.digest, name).read_bytes() == desk.store.file(parent, name).read_bytes()
    ids = {name: [row["row_id"] for row in desk.read(made.digest, name)] for name in FILES}
    everyone = [row["row_id"] for name in FILES for row in desk.read(parent, name)]
    assert sorted(chain.from_iterable(ids.values())) == sorted(everyone)
    assert {name: len(found) for name, found in ids.items()} == {name: counts[name] for name in FILES}
    lines = set(desk.store.file(parent, "train.jsonl").read_bytes().splitlines())
    assert set(desk.store.file(made.digest, "train.jsonl").read_bytes().splitlines()) < lines


def test_figures_are_what_a_count_over_the_rows_gives(desk: Desk) -> None:
    rows = [{"prompt": f"write to a{i}@example.org about {i}", "completion": LETTERS[: i % 9 + 1]} for i in range(60)]
    parent = desk.snapshot(rows)
    made = select(desk.store, parent, score(desk.store, parent, by="length"), parse_top("10"))
    body = desk.store.manifest(made.digest).body
    kept = {name: desk.read(made.digest, name) for name in ("train", "validation", "test")}
    everyone = list(chain.from_iterable(kept.values()))
    groups = [row["group"] for row in everyone]
    assert body["groups"]["count"] == len(set(groups))
    assert body["groups"]["largest"] == max(map(groups.count, groups))
    assert {name: body["groups"][name] for name in kept} == {name: len({row["group"] for row in kept[name]}) for name in kept}
    tokens = sorted(row["tokens"] for row in kept["train"])
    assert body["lengths"]["train"]["rows"] == len(tokens)
    assert body["lengths"]["train"]["total"] == sum(tokens)
    assert body["lengths"]["test"] == desk.store.manifest(parent).body["lengths"]["test"]
    rules = {rule["name"]: rule for rule in body["rules"]}
    touched = [{(touch["rule"], touch["kind"]) for touch in row["touched"]} for row in everyone]
    assert rules["pii"]["changed"] == sum(("pii", "changed") in one for one in touched) > 0
    rejected = desk.read(made.digest, "rejected")
    assert rules["select"]["dropped"] == body["rejected_by"]["select"] == sum(row["rule"] == "select" for row in rejected)
    card = desk.store.file(made.digest, "card.md").read_text()
    assert "were chosen by length (asked for: 10)" in card
    croissant = json.loads(desk.store.file(made.digest, "croissant.json").read_bytes())
    files = {entry.path: entry.sha256 for entry in desk.store.manifest(made.digest).files}
    assert {one["name"]: one["sha256"] for one in croissant["distribution"]} == {
        f"{name}.jsonl": files[f"{name}.jsonl"] for name in FILES
    }


def test_rejected_rows_say_score_and_rank_and_stand_in_order(desk: Desk) -> None:
    rows = [{"prompt": f"question {i}", "completion": LETTERS[: 50 - i] if i % 7 else ""} for i in range(1, 40)]
    parent = desk.snapshot(rows)
    scored = score(desk.store, parent, by="length")
    made = select(desk.store, parent, scored, parse_top("3"))
    rejected = desk.read(made.digest, "rejected")
    lines = [row["source"]["line"] for row in rejected]
    assert lines == sorted(lines)
    assert len({row["rule"] for row in rejected}) == 2
    ranks = {scored.places[row].row_id: (rank, scored.values[row]) for rank, row in enumerate(scored.order.tolist(), start=1)}
    for row in (row for row in rejected if row["rule"] == "select"):
        rank, value = ranks[row["row_id"]]
        assert rank > 3
        assert row["reason"] == f"length {value:g}, rank {rank} of {len(ranks)}"
        assert row["split"] == "train"


def test_rows_that_were_left_out_keep_their_side(desk: Desk) -> None:
    """With another key every row would be hashed elsewhere; those of the selection's parent stay where they were."""
    parent = desk.snapshot(sums(1, 60), split_seed=1)
    made = select(desk.store, parent, score(desk.store, parent, by="random"), parse_top("5"))
    sides = {row["messages"][0]["content"]: name for name in FILES[:3] for row in desk.read(parent, name)}
    later = desk.snapshot(sums(1, 70), onto=made.digest, split_seed=2)
    found = {row["messages"][0]["content"]: name for name in FILES[:3] for row in desk.read(later, name)}
    assert {prompt: found[prompt] for prompt in sides} == sides
    fresh = desk.snapshot(sums(1, 70), split_seed=2)
    moved = {row["messages"][0]["content"]: name for name in FILES[:3] for row in desk.read(fresh, name)}
    assert any(moved[prompt] != side for prompt, side in sides.items()), "the test could not fail"


def test_a_selection_of_a_selection(desk: Desk) -> None:
    parent = desk.snapshot(sums(1, 60))
    first = select(desk.store, parent, score(desk.store, parent, by="length"), parse_top("20"))
    second = select(desk.store, first.digest, score(desk.store, first.digest, by="diversity"), parse_top("50%"))
    body = desk.store.manifest(second.digest).body
    assert body["counts"]["train"] == 10
    assert body["counts"]["kept"] + body["counts"]["rejected"] == body["counts"]["read"]
    assert body["rejected_by"]["select"] == desk.store.manifest(parent).body["counts"]["train"] - 10
    assert body["selection"]["parent"] == first.digest
    assert sum(rule["dropped"] for rule in body["rules"]) == body["counts"]["rejected"]
    (entry,) = (rule for rule in body["rules"] if rule["name"] == "select")
    assert entry["options"]["by"] == "diversity"
    assert desk.store.file(second.digest, "card.md").read_text(encoding="utf-8").count("| select |") == 1


def test_the_same_selection_is_the_same_snapshot(desk: Desk) -> None:
    parent = desk.snapshot(sums(1, 60))
    made = [select(desk.store, parent, score(desk.store, parent, by=by), parse_top("9")) for by in ("novelty", "novelty")]
    assert made[0].digest == made[1].digest


def test_too_many_and_all_are_refused(desk: Desk) -> None:
    parent = desk.snapshot(sums(1, 20), validation=0.0, test=0.0)
    scored = score(desk.store, parent, by="length")
    with pytest.raises(DataError, match=r"20 rows are wanted, and there are 19\. In --top"):
        select(desk.store, parent, scored, parse_top("20"))
    with pytest.raises(DataError, match="All 19 train rows would be chosen"):
        select(desk.store, parent, scored, parse_top("100%"))


def test_mismatched_rows_are_left_out_only_on_wish(desk: Desk) -> None:
    from dataclasses import replace

    import numpy as np

    parent = desk.snapshot(sums(1, 12), validation=0.0, test=0.0)
    lengths = score(desk.store, parent, by="length")
    values = np.linspace(1.25, 0.5, len(lengths.places))
    scored = replace(lengths, by="ifd", values=values, order=np.argsort(-values))
    mismatched = int((values >= 1).sum())
    assert mismatched == scored.mismatched > 0
    top = parse_top("4")
    plain = desk.read(select(desk.store, parent, scored, top).digest, "train")
    without = select(desk.store, parent, scored, top, without_mismatched=True)
    assert [row["row_id"] for row in plain] == [place.row_id for place in scored.places[:4]]
    kept = [row["row_id"] for row in desk.read(without.digest, "train")]
    assert kept == [place.row_id for place in scored.places[mismatched : mismatched + 4]]
    reasons = [row["reason"] for row in desk.read(without.digest, "rejected")]
    assert reasons[0] == f"ifd 1.25, rank 1 of {len(values)}, mismatched"
    assert f"{mismatched} rows have an IFD of 1 or more" in desk.store.file(without.digest, "card.md").read_text()
    with pytest.raises(DataError, match=f"only {len(values) - mismatched} can be chosen: 0 have no score, {mismatched} are"):
        select(desk.store, parent, scored, parse_top(str(len(values) - 1)), without_mismatched=True)


def test_a_successor_refuses_rows_that_are_not_in_train(desk: Desk) -> None:
    parent = desk.snapshot(sums(1, 30))
    held_out = desk.read(parent, "test")[0]["row_id"]
    before = set(desk.store.objects())
    with pytest.raises(DataError, match=f"1 of 1 rows that are to leave are not in train, e.g. {held_out}"):
        write_successor(desk.store, parent, {held_out: "why"}, Change("select", 1))
    everyone = {row["row_id"]: "why" for row in desk.read(parent, "train")}
    with pytest.raises(DataError, match="No row would be left to train on"):
        write_successor(desk.store, parent, everyone, Change("select", 1))
    assert set(desk.store.objects()) == before
    assert not list((Path(desk.store.root) / "tmp").rglob("train.jsonl"))
