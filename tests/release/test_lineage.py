"""From a release back to source file and line."""

import pytest

from budwood.errors import StoreError
from budwood.release.lineage import find_object, lineage, training_rows
from budwood.release.promote import promote
from budwood.store import Store

from .conftest import Releaser


def test_a_release_leads_back_to_rows_with_file_and_line(store: Store, release: Releaser) -> None:
    made = release(1)
    tree = lineage(store, made.digest)
    assert tree.nodes[0].digest == made.digest
    assert {node.kind for node in tree.nodes} == {"release", "base", "adapter", "snapshot", "report", "run"}
    assert tree.snapshots == (made.snapshot,)
    rows = training_rows(store, tree.snapshots[0], limit=5)
    assert [(row.source, row.line, row.split) for row in rows] == [("rows.jsonl", 1, "train"), ("rows.jsonl", 2, "train")]
    assert rows[0].messages[0] == ("user", "question 0")
    assert rows[0].touched == ("whitespace",)
    assert rows[0].as_dict()["source"]["line"] == 1


def test_each_object_is_unfolded_once(store: Store, release: Releaser) -> None:
    first = release(1)
    second = release(2, champion=first)
    lines = lineage(store, second.digest).lines()
    assert lines[0] == f"release {second.digest[:12]} support"
    assert lines[1] == f"  base {first.base[:12]} seedling"
    assert sum(line.strip().startswith(f"release {first.digest[:12]}") for line in lines) == 1
    assert any(line.endswith("lora, 40 steps") for line in lines)
    assert any(line.endswith("support: 4 rows of 5") for line in lines)
    assert any("(see above)" in line for line in lines)


def test_a_row_is_found_by_its_id_in_any_split(store: Store, release: Releaser) -> None:
    made = release(1)
    wanted = training_rows(store, made.snapshot, splits=("test",))[0]
    found = training_rows(store, made.snapshot, row_id=wanted.row_id[:10])
    assert [(row.row_id, row.split) for row in found] == [(wanted.row_id, "test")]
    with pytest.raises(StoreError, match="has no row 'nothing'"):
        training_rows(store, made.snapshot, row_id="nothing")
    with pytest.raises(StoreError, match="is a run, not a snapshot"):
        training_rows(store, made.run)


def test_a_removed_snapshot_stays_in_the_walk_with_its_reason(store: Store, release: Releaser) -> None:
    made = release(1)
    store.tombstone(made.snapshot, who="anna", reason="a customer asked")
    tree = lineage(store, made.digest)
    assert tree.snapshots == ()
    assert any("(removed: a customer asked)" in line for line in tree.lines())


def test_objects_are_found_by_release_or_digits(store: Store, release: Releaser) -> None:
    made = release(1)
    promote(store, "support@1", who="anna", reason="")
    for ref in ("support", "support@production", "support@1", made.digest[:8]):
        assert find_object(store, ref) == made.digest
    assert find_object(store, made.run[:10]) == made.run
    with pytest.raises(StoreError, match="unknown release name"):
        find_object(store, "suport")
