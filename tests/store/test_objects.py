"""Objects: what they are named by, what is refused, what is noticed."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from budwood.errors import StoreError
from budwood.store import Store, open_store

from .conftest import Clock, Maker, put


def test_the_digest_is_the_sha256_of_the_manifest_file(store: Store, make: Maker) -> None:
    digest = make(files={"b.txt": "zwei", "a/x.txt": "eins"}, body={"name": "support", "rows": 2})
    data = (store.folder(digest) / "manifest.json").read_bytes()
    assert hashlib.sha256(data).hexdigest() == digest
    value = json.loads(data)
    assert [entry["path"] for entry in value["files"]] == ["a/x.txt", "b.txt"]
    assert value["files"][0] == {"path": "a/x.txt", "sha256": hashlib.sha256(b"eins").hexdigest(), "size": 4}
    assert store.file(digest, "a/x.txt").read_text() == "eins"


def test_same_content_is_the_same_object_and_keeps_the_first_attestation(store: Store, make: Maker) -> None:
    first = make(attestation={"seconds": 1.0})
    second = make(attestation={"seconds": 2.0})
    assert first == second
    assert [item["seconds"] for item in store.attestations(first)] == [1.0, 2.0]
    assert len(list(store.objects())) == 1


def test_each_part_of_the_content_changes_the_digest(store: Store, make: Maker) -> None:
    parent = make("base", body={"id": "x"})
    digests = [
        make(),
        make(files={"a.txt": "b"}),
        make(files={"b.txt": "a"}),
        make(body={"n": 1}),
        make(parents=[parent]),
        make("report"),
    ]
    assert len(set(digests)) == len(digests)


def test_an_attestation_changes_no_digest_and_lies_beside(store: Store, make: Maker) -> None:
    digest = make()
    store.attest(digest, {"host": "a"})
    store.attach(digest, "report.html", b"<p>")
    assert store.faults(digest) == []
    assert store.attestations(digest)[-1]["host"] == "a"
    assert store.attachment(digest, "report.html").read_bytes() == b"<p>"


def test_attachments_of_a_draft_are_kept_beside_the_object(store: Store) -> None:
    with store.draft("report") as draft:
        (draft.folder / "cases.jsonl").write_text("{}")
        (draft.attachments / "report.html").write_text("<p>")
        digest = draft.commit()
    assert store.attachment(digest, "report.html").read_text() == "<p>"
    assert [entry.path for entry in store.manifest(digest).files] == ["cases.jsonl"]


def test_a_draft_without_commit_leaves_nothing(store: Store) -> None:
    with store.draft("run") as draft:
        (draft.folder / "half").write_text("x")
    with pytest.raises(ZeroDivisionError), store.draft("run") as draft:
        (draft.folder / "half").write_text(str(1 / 0))
    assert list(store.objects()) == []
    assert [name for name in os.listdir(store.root / "tmp") if name.startswith("draft")] == []


def test_a_missing_parent_is_refused_and_nothing_is_stored(store: Store, make: Maker) -> None:
    with pytest.raises(StoreError) as caught:
        make("run", parents=["ab" * 32])
    assert str(caught.value) == (
        "The parent abababababab… of this run is not in the store.\n"
        "    Nothing was stored. Run the stage that makes the parent first."
    )
    assert list(store.objects()) == []


@pytest.mark.parametrize("name", ["manifest.json", "tombstone.json", "MANIFEST.json", "a\nb", "a\u200bb", "a\\b"])
def test_file_names_that_cannot_be_kept_are_refused(store: Store, make: Maker, name: str) -> None:
    with pytest.raises(StoreError, match="file path"):
        make(files={name: "x"})
    assert list(store.objects()) == []


def test_files_that_differ_by_case_only_are_refused(make: Maker) -> None:
    with pytest.raises(StoreError, match="by case only"):
        make(files={"Rows.jsonl": "x", "rows.jsonl": "y"})


def test_a_link_in_a_draft_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    with store.draft("run") as draft:
        (draft.folder / "link").symlink_to(tmp_path / "secret")
        with pytest.raises(StoreError, match="not a plain file"):
            draft.commit()


def test_a_body_that_is_not_finite_is_refused(make: Maker) -> None:
    with pytest.raises(StoreError, match="cannot be written as JSON"):
        make(body={"loss": float("nan")})


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda folder: _rewrite(folder / "a.txt", "b"), "a.txt was altered"),
        (lambda folder: _rewrite(folder / "a.txt", "longer"), "a.txt has 6 bytes, not 1"),
        (lambda folder: (folder / "a.txt").unlink(), "a.txt is missing"),
        (lambda folder: (folder / "extra").write_text("x"), "extra is extra"),
        (lambda folder: (folder / "link").symlink_to("/etc/hostname"), "link is not a plain file"),
        (lambda folder: _rewrite(folder / "manifest.json", "{}"), "The manifest of"),
    ],
)
def test_bad_26_damage_is_found_and_named(store: Store, make: Maker, change: object, fault: str) -> None:
    digest = make()
    assert callable(change)
    change(store.folder(digest))
    report = store.verify()
    assert not report.ok
    assert fault in report.problems[0]
    assert digest[:12] in report.problems[0]


def _rewrite(path: Path, text: str) -> None:
    path.chmod(0o644)
    path.write_text(text)


def test_committing_again_mends_a_damaged_object(store: Store, make: Maker) -> None:
    digest = make()
    _rewrite(store.folder(digest) / "a.txt", "b")
    assert make() == digest
    assert store.verify().ok


def test_an_altered_manifest_is_never_read(store: Store, make: Maker) -> None:
    digest = make(body={"rank": 8})
    path = store.folder(digest) / "manifest.json"
    _rewrite(path, path.read_text().replace("8", "9"))
    with pytest.raises(StoreError, match="was altered"):
        store.manifest(digest)


def test_a_stranger_in_the_objects_folder_is_named(store: Store, make: Maker) -> None:
    make()
    (store.root / "objects" / "zz").mkdir()
    (store.root / "objects" / "zz" / "note").mkdir()
    assert store.verify().problems == ("objects/zz/note is no object",)


def test_prefixes_resolve_when_they_are_long_and_unique(store: Store, make: Maker) -> None:
    digest = make()
    assert store.resolve(digest[:6]) == digest
    assert store.resolve(digest[:12] + "…") == digest
    for prefix in (digest[:5], "../../x", "ABCDEF", "", "f" * 65):
        with pytest.raises(StoreError, match="no digest prefix"):
            store.resolve(prefix)
    with pytest.raises(StoreError, match="No object begins with"):
        store.resolve("0" * 64 if digest[0] != "0" else "1" * 64)


@pytest.mark.parametrize("digest", ["", "a", "../" * 21 + "x", "A" * 64, "g" * 64, "a" * 63, "sha256:" + "a" * 57])
def test_bad_53_what_is_no_digest_is_refused(store: Store, digest: str) -> None:
    for call in (store.manifest, store.folder, store.attestations, store.children, store.done):
        with pytest.raises(StoreError, match="is no digest"):
            call(digest)


def test_children_are_found_also_when_the_index_missed_them(store: Store, make: Maker) -> None:
    parent = make("base")
    child = make("adapter", parents=[parent])
    other = open_store(store.root, clock=Clock())
    with other._parts.catalog.write() as connection:
        connection.exec_driver_sql("DELETE FROM parents")
        connection.exec_driver_sql("DELETE FROM objects")
    assert other.children(parent) == [child]
    other.close()
    assert store.children(child) == []


def test_work_folders_stay_until_they_are_dropped(store: Store) -> None:
    (store.work("train-1") / "checkpoint").write_text("x")
    assert (store.work("train-1") / "checkpoint").read_text() == "x"
    store.drop_work("train-1")
    assert list(store.work("train-1").iterdir()) == []
    for key in ("../x", "a/b", "", ".", "a\0"):
        with pytest.raises(StoreError, match="cannot name a work folder"):
            store.work(key)


def test_an_action_is_done_while_its_result_is_whole(store: Store, make: Maker) -> None:
    digest = make()
    key = store.action("prepare", 1, {"split_seed": 0}, ["ab" * 32], 0)
    assert store.done(key) is None
    store.record(key, digest)
    assert store.done(key) == digest
    others = [
        store.action("train", 1, {"split_seed": 0}, ["ab" * 32], 0),
        store.action("prepare", 2, {"split_seed": 0}, ["ab" * 32], 0),
        store.action("prepare", 1, {"split_seed": 1}, ["ab" * 32], 0),
        store.action("prepare", 1, {"split_seed": 0}, [], 0),
        store.action("prepare", 1, {"split_seed": 0}, ["ab" * 32], 1),
    ]
    assert len({key, *others}) == 6
    store.tombstone(digest, who="me", reason="asked for")
    assert store.done(key) is None


NAMES = st.lists(st.text("abcdefghijklmnopqrstuvwxyz0123456789_-", min_size=1, max_size=8), min_size=1, max_size=3).map(
    "/".join
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.dictionaries(NAMES, st.binary(max_size=64), max_size=5), number=st.integers())
def test_what_goes_in_comes_out(tmp_path: Path, files: dict[str, bytes], number: int) -> None:
    folders = {name.rpartition("/")[0] for name in files} | {name.split("/")[0] for name in files if name.count("/") > 1}
    files = {name: data for name, data in files.items() if name not in folders}
    store = open_store(tmp_path / "any", clock=Clock())
    with store.draft("run") as draft:
        for name, data in files.items():
            (draft.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (draft.folder / name).write_bytes(data)
        digest = draft.commit(body={"n": number})
    assert {entry.path: store.file(digest, entry.path).read_bytes() for entry in store.manifest(digest).files} == files
    assert store.manifest(digest).body == {"n": number}
    assert store.faults(digest) == []
    store.close()


def test_opening_what_is_no_store_read_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no store"):
        open_store(tmp_path / "nothing", read_only=True)
    assert not (tmp_path / "nothing").exists()


def test_putting_needs_no_fixture(tmp_path: Path) -> None:
    with open_store(tmp_path / "s") as store:
        assert store.exists(put(store, "base", body={"id": "seedling"}))
