"""`budwood status`, `history` and `lineage` on a store that has lost something, and on names that nobody has heard of."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from budwood.cli.main import build_app
from budwood.errors import StoreError
from budwood.identity import Digest
from budwood.store import Store, open_store

Run = Callable[..., str]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


@pytest.fixture
def run(store: Store) -> Run:
    def run_command(*arguments: str) -> str:
        done = CliRunner().invoke(build_app(), [*arguments, "--store", str(store.root)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return run_command


def release(store: Store, question: str, *above: Digest) -> Digest:
    """Register a release of support, on a snapshot of one row."""
    value = {
        "row_id": question.encode().hex(),
        "messages": [{"role": "user", "content": question}],
        "source": {"file": "rows.jsonl", "sha256": "ab" * 32, "line": 1},
    }
    with store.draft("snapshot") as draft:
        for split in ("train", "validation", "test"):
            (draft.folder / f"{split}.jsonl").write_text(json.dumps(value) + "\n" if split == "train" else "")
        snapshot = draft.commit(body={"name": "support"})
    with store.draft("release") as draft:
        digest = draft.commit(parents=[snapshot, *above], body={"name": "support", "snapshot": snapshot, "verdict": None})
    store.add_release("support", digest, who="anna", reason="")
    return digest


def test_status_shows_what_was_removed_and_what_is_damaged_beside_the_rest(store: Store, run: Run) -> None:
    digests = [release(store, question) for question in ("one", "two", "three")]
    store.tombstone(digests[0], who="anna", reason="a customer asked")
    (store.folder(digests[1]) / "manifest.json").unlink()
    lines = [line.split(maxsplit=2) for line in run("status", "support").splitlines() if "support@" in line]
    assert lines == [
        ["support@1", digests[0][:12], "unknown     removed: a customer asked"],
        ["support@2", digests[1][:12], f"unknown     damaged: The object {digests[1][:12]}… has no manifest.json."],
        ["support@3", digests[2][:12], "not judged  no report"],
    ]
    assert [row["verdict"] for row in json.loads(run("status", "--json"))["releases"]] == ["unknown", "unknown", "not judged"]


@pytest.mark.parametrize(
    "arguments",
    [("status", "suport"), ("history", "suport"), ("history", "suport", "--at", "2026-03-03"), ("rollback", "suport")],
)
def test_a_name_that_nobody_has_heard_of_is_no_empty_answer(store: Store, run: Run, arguments: tuple[str, ...]) -> None:
    release(store, "one")
    with pytest.raises(StoreError, match='unknown release name "suport"') as caught:
        run(*arguments)
    assert "Nearest: support." in caught.value.what


def test_lineage_shows_the_rows_of_the_release_and_of_no_other(store: Store, run: Run) -> None:
    first = release(store, "old question")
    second = release(store, "new question", first)
    snapshot = store.manifest(second).body["snapshot"]
    shown = run("lineage", second)
    assert "user: new question" in shown
    assert "old question" not in shown
    store.tombstone(snapshot, who="anna", reason="a customer asked")
    shown = run("lineage", second)
    assert "question" not in shown
    assert shown.endswith(f"Its rows are gone: snapshot {snapshot[:12]} was removed: a customer asked\n")
    assert json.loads(run("lineage", second, "--json"))["rows"] == []


def test_a_row_that_is_there_is_not_denied_when_none_shall_be_shown(store: Store, run: Run) -> None:
    digest = release(store, "question")
    row_id = b"question".hex()
    assert f"Row {row_id[:12]}" in run("lineage", digest, "--row", row_id[:8])
    assert "Row" not in run("lineage", digest, "--row", row_id[:8], "--rows", "0")
    with pytest.raises(StoreError, match="has no row"):
        run("lineage", digest, "--row", "ffffffff", "--rows", "0")
