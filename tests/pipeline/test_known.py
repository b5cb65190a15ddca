"""What a name's earlier releases are still good for after some of it was removed."""

from dataclasses import replace
from pathlib import Path

from budwood.identity import short
from budwood.pipeline.known import earlier_snapshots, prepare_key, prepared
from budwood.recipe import PrepareSection

from .conftest import Desk


def test_removed_releases_and_snapshots_are_left_out_and_said(desk: Desk) -> None:
    first, second, third = (desk.snapshot(train=[number]) for number in (1, 2, 3))
    desk.release(first)
    gone = desk.release(second)
    desk.release(third)
    assert earlier_snapshots(desk.job) == [None, first, second, third]
    assert desk.said == []
    desk.store.tombstone(gone, who="anna", reason="it remembered a customer")
    desk.store.tombstone(third, who="anna", reason="a customer asked")
    assert earlier_snapshots(desk.job) == [None, first]
    assert desk.said == [
        "Release support@2 was removed: splits are no longer inherited from there",
        f"Snapshot {short(third)} was removed: splits are no longer inherited from there",
    ]


def test_what_lost_rows_is_built_on_as_what_took_its_place(desk: Desk) -> None:
    first, second = desk.snapshot(train=[1]), desk.snapshot(train=[2], body={"counts": {"forgotten": 1}})
    desk.release(first)
    desk.store.tombstone(first, who="anna", reason="a customer asked", successor=second)
    assert earlier_snapshots(desk.job) == [None, second]
    gone = f"1 row was removed from snapshot {short(first)} on request: sources that hold them bring them back"
    assert desk.said == [gone]
    third = desk.snapshot(train=[3])
    desk.store.record(prepare_key(desk.job, second), third)
    assert prepared(desk.job) == third


def test_what_was_prepared_onto_a_removed_snapshot_is_still_used(desk: Desk) -> None:
    first = desk.snapshot(train=[1])
    second = desk.snapshot(train=[2], parents=[first])
    desk.release(first)
    desk.release(second)
    desk.store.record(prepare_key(desk.job, first), second)
    desk.store.tombstone(first, who="anna", reason="a customer asked")
    assert prepared(desk.job) == second
    assert desk.said == []


def test_a_benchmark_that_changes_asks_for_another_snapshot(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "bench.jsonl"
    recipe = desk.job.recipe
    job = replace(
        desk.job, recipe=recipe.model_copy(update={"prepare": PrepareSection.model_validate({"benchmarks": [str(path)]})})
    )
    keys = [prepare_key(desk.job, None), prepare_key(job, None)]
    for content in ("one", "two"):
        path.write_text(content)
        keys.append(prepare_key(job, None))
    assert len(set(keys)) == 4
