"""The split is stable: a data set that grows by a tenth, with planted bridges between groups of different splits, moves no row.

A bridge is a new row that ties two old groups of different splits together. The stronger side stays (test before validation
before train); rows of the weaker one, and the bridge, are rejected as leaks that name a row of the stronger side.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest

STRENGTH = {"train": 0, "validation": 1, "test": 2}
OLD, NEW = 300, 30
BRIDGES = [("train", "test"), ("train", "validation"), ("validation", "test")]


def ask(number: int, **slices: Any) -> dict[str, Any]:
    """A row that resembles no other."""
    words = " ".join(f"{chr(97 + (number * step) % 26) * 3}{number * step % 997}" for step in (3, 7, 11, 13, 17))
    return {"prompt": f"{words}?", "completion": f"answer {number}", **slices}


def near(prompt: str) -> str:
    """The same prompt but for its end: at least 0.8 alike."""
    return f"{prompt}!"


def old_rows() -> list[dict[str, Any]]:
    """Threads of one to three rows, every fifth of which has a near-duplicate with another answer in no thread."""
    rows = []
    for number in range(OLD):
        rows.append(ask(number, thread=f"t{number // 2 if number % 3 else number}"))
        if number % 5 == 0:
            rows.append({"prompt": near(rows[-1]["prompt"]), "completion": f"other {number}", "thread": ""})
    return rows


def by_prompt(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["messages"][0]["content"]: row for row in rows}


def groups_of(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    groups = defaultdict(list)
    for row in rows:
        groups[row["group"]].append(row)
    return dict(groups)


def plant(first: Any) -> list[tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]]:
    """For each pair of splits, and each of two ways of tying: the bridge, the weaker group's rows, the stronger group's."""
    free: dict[str, list[list[dict[str, Any]]]] = {split: [] for split in STRENGTH}
    for rows in groups_of(first.kept).values():
        if any(row["slices"]["thread"] for row in rows):
            free[rows[0]["split"]].append(rows)
    bridges = []
    for weak, strong in BRIDGES:
        for way in (0, 1):
            weaker, stronger = free[weak].pop(), free[strong].pop()
            # Near one side's row, in the thread of the other's: once this way round, once the other.
            ends = (weaker, stronger) if way == 0 else (stronger, weaker)
            threaded = next(row for row in ends[1] if row["slices"]["thread"])
            prompt = near(near(ends[0][0]["messages"][0]["content"]))
            bridge = {"prompt": prompt, "completion": f"{weak} {strong} {way}", "thread": threaded["slices"]["thread"]}
            bridges.append((bridge, weaker, stronger))
    return bridges


@pytest.fixture
def settings() -> dict[str, Any]:
    return {"group_by": "thread", "validation": 0.25, "test": 0.25}


def test_a_tenth_more_rows_with_bridges_moves_none_and_rejects_the_weaker_sides(bench: Any, settings: dict[str, Any]) -> None:
    first = bench.prepare(bench.write("first.jsonl", old_rows()), **settings)
    planted = plant(first)
    fresh = [ask(1000 + number, thread=f"n{number}") for number in range(NEW)]
    # The file grew in front, and was written in another order: no old row keeps its line, nor its id.
    grown = [*fresh, *(bridge for bridge, _, _ in planted), *old_rows()[::-1]]
    second = bench.prepare(bench.write("second.jsonl", grown), onto=first.digest, **settings)

    before, after, gone = by_prompt(first.kept), by_prompt(second.kept), by_prompt(second.rejected)
    leaving = {row["messages"][0]["content"] for _, weaker, _ in planted for row in weaker}
    bridging = {bridge["prompt"] for bridge, _, _ in planted}
    assert {prompt: row["split"] for prompt, row in after.items() if prompt in before} == {
        prompt: row["split"] for prompt, row in before.items() if prompt not in leaving
    }
    assert gone.keys() == leaving | bridging
    assert after.keys() - before.keys() == {row["prompt"] for row in fresh}
    assert {after[row["prompt"]]["split"] for row in fresh} == set(STRENGTH)

    for bridge, weaker, stronger in planted:
        split = stronger[0]["split"]
        staying = {after[row["messages"][0]["content"]]["row_id"] for row in stronger}
        for prompt in (bridge["prompt"], *(row["messages"][0]["content"] for row in weaker)):
            rule, reason = gone[prompt]["rule"], gone[prompt]["reason"]
            assert rule == "leak"
            assert reason.removeprefix(f"same group as {split} row ") in staying

    assert second.body["rejected_by"] == {"leak": len(leaving | bridging)}
    assert_whole(second)


def test_a_third_snapshot_moves_none_of_the_second(bench: Any, settings: dict[str, Any]) -> None:
    """Also when the rows that were tied, and the bridges, are given again: they stay out, and no new row brings them back."""
    first = bench.prepare(bench.write("first.jsonl", old_rows()), **settings)
    grown = [*old_rows(), *(bridge for bridge, _, _ in plant(first))]
    second = bench.prepare(bench.write("second.jsonl", grown), onto=first.digest, **settings)
    more = [*grown, *(ask(2000 + number, thread=f"m{number}") for number in range(NEW))]
    third = bench.prepare(bench.write("third.jsonl", more), onto=second.digest, **settings)
    before, after = by_prompt(second.kept), by_prompt(third.kept)
    assert {prompt: after[prompt]["split"] for prompt in before} == {prompt: row["split"] for prompt, row in before.items()}
    assert_whole(third)


def test_without_the_earlier_snapshot_old_rows_keep_their_splits_but_for_groups_that_grew(
    bench: Any, settings: dict[str, Any]
) -> None:
    """The keyed hash alone: rows added elsewhere move nothing."""
    first = bench.prepare(bench.write("first.jsonl", old_rows()), **settings)
    fresh = [ask(1000 + number, thread=f"n{number}") for number in range(NEW)]
    second = bench.prepare(bench.write("second.jsonl", [*fresh, *old_rows()]), **settings)
    before, after = by_prompt(first.kept), by_prompt(second.kept)
    assert {prompt: after[prompt]["split"] for prompt in before} == {prompt: row["split"] for prompt, row in before.items()}


def assert_whole(snapshot: Any) -> None:
    """No group, and no thread, is in two splits; every row read is kept or rejected."""
    for rows in groups_of(snapshot.kept).values():
        assert len({row["split"] for row in rows}) == 1
    threads = defaultdict(set)
    for row in snapshot.kept:
        if row["slices"]["thread"]:
            threads[row["slices"]["thread"]].add(row["split"])
    assert all(len(splits) == 1 for splits in threads.values())
    counts = snapshot.body["counts"]
    assert counts["kept"] + counts["rejected"] == counts["read"] == len(snapshot.kept) + len(snapshot.rejected)
