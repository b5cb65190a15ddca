"""From a release back to source file and line."""

import pytest

from budwood.errors import StoreError
from budwood.identity import digest_json
from budwood.release.lineage import Lineage, Node, find_object, lineage, training_rows
from budwood.release.promote import promote
from budwood.store import Store

from .conftest import Releaser, put, row


def test_a_release_leads_back_to_rows_with_file_and_line(store: Store, release: Releaser) -> None:
    made = release(1)
    tree = lineage(store, made.digest)
    assert tree.nodes[0].digest == made.digest
    assert {node.kind for node in tree.nodes} == {"release", "base", "adapter", "snapshot", "report", "run"}
    assert tree.data is not None
    assert tree.data.digest == made.snapshot
    rows = training_rows(store, tree.data.digest, limit=5)
    assert [(row.source, row.line, row.split) for row in rows] == [("rows.jsonl", 1, "train"), ("rows.jsonl", 2, "train")]
    assert rows[0].messages[0] == {"role": "user", "content": "question 0"}
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
    assert training_rows(store, made.snapshot, row_id=wanted.row_id[:10], limit=0) == []
    for limit in (0, 3):
        with pytest.raises(StoreError, match="has no row 'nothing'"):
            training_rows(store, made.snapshot, row_id="nothing", limit=limit)
    with pytest.raises(StoreError, match="is a run, not a snapshot"):
        training_rows(store, made.run)


def test_a_removed_snapshot_stays_in_the_walk_with_its_reason(store: Store, release: Releaser) -> None:
    made = release(1)
    store.tombstone(made.snapshot, who="anna", reason="a customer asked")
    tree = lineage(store, made.digest)
    assert tree.data is not None
    assert (tree.data.digest, tree.data.forgotten) == (made.snapshot, "a customer asked")
    assert any("(removed: a customer asked)" in line for line in tree.lines())


def test_the_data_of_a_release_is_its_own_and_never_that_of_the_one_before(store: Store, release: Releaser) -> None:
    first = release(1)
    rows = {f"{split}.jsonl": row(number) for number, split in enumerate(("train", "validation", "test"), start=5)}
    own = put(store, "snapshot", rows, parents=[first.snapshot], body={"name": "support"})
    run = put(store, "run", parents=[own, first.base, first.adapter], body={"method": "lora", "steps": 1})
    second = release(1, None, snapshot=own, run=run, report=None, parent=first.digest)
    for digest in (second.digest, run, own):
        data = lineage(store, digest).data
        assert data is not None
        assert data.digest == own
    store.tombstone(own, who="anna", reason="a customer asked")
    data = lineage(store, second.digest).data
    assert data is not None
    assert (data.digest, data.forgotten) == (own, "a customer asked")
    assert lineage(store, first.adapter).data is None


def test_a_long_line_of_releases_is_drawn_as_far_as_it_says_something() -> None:
    digests = [digest_json(number) for number in range(5000)]
    nodes = [
        Node(digest, "release", str(number), tuple(digests[number + 1 : number + 2]), number, None)
        for number, digest in enumerate(digests)
    ]
    lines = Lineage(tuple(nodes)).lines()
    assert [line.split()[-1] for line in lines[:-1]] == [str(number) for number in range(13)]
    assert lines[12].startswith("  " * 12 + "release")
    assert lines[-1] == "… and 4,987 more objects, further back"


def test_objects_are_found_by_release_or_digits(store: Store, release: Releaser) -> None:
    made = release(1)
    promote(store, "support@1", who="anna", reason="")
    for ref in ("support", "support@production", "support@1", made.digest[:8]):
        assert find_object(store, ref) == made.digest
    assert find_object(store, made.run[:10]) == made.run
    with pytest.raises(StoreError, match="unknown release name"):
        find_object(store, "suport")
