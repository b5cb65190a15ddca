"""Collection, removal, leases, full and read-only disks, locked catalogs."""

import errno
import fcntl
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from budwood.errors import StoreError
from budwood.store import Removal, Store, open_store
from budwood.store.leases import gate
from budwood.store.registry import Registry

from .conftest import Clock, Maker, edit, on_sqlite, put


def test_only_what_no_release_was_made_from_is_collected(store: Store, clock: Clock, make: Maker) -> None:
    base = make("base", body={"n": 1})
    release = make("release", parents=[base])
    store.add_release("support", release, who="anna", reason="")
    snapshot = make("snapshot", body={"n": 2})
    run = make("run", parents=[snapshot])
    store.close()
    assert store.collect(True) == []
    clock.now += timedelta(days=8)
    assert store.collect(True) == [run, snapshot]
    assert store.exists(run)
    assert store.collect(False) == [run, snapshot]
    assert sorted(store.objects()) == sorted([base, release])
    assert store.children(snapshot) == []
    assert store.attestations(run) == []
    assert store.verify().ok


def test_a_cache_goes_with_its_object(store: Store, clock: Clock, make: Maker) -> None:
    snapshots = [make("snapshot", body={"n": number}) for number in range(3)]
    folders = [store.cache(snapshot) for snapshot in snapshots]
    for folder in folders:
        (folder / "tokens").write_text("what people wrote")
    assert store.verify().ok
    store.tombstone(snapshots[0], who="anna", reason="asked to")
    assert [folder.exists() for folder in folders] == [False, True, True]
    store.add_release("support", make("release", parents=[snapshots[1]]), who="anna", reason="")
    store.close()
    clock.now += timedelta(days=8)
    assert store.collect(False) == [snapshots[2]]
    assert [folder.exists() for folder in folders] == [False, True, False]
    with pytest.raises(StoreError):
        store.cache("../elsewhere")


def test_a_young_object_keeps_what_it_was_made_from(store: Store, clock: Clock, make: Maker) -> None:
    snapshot = make("snapshot")
    clock.now += timedelta(days=8)
    run = make("run", parents=[snapshot])
    store.close()
    assert store.collect(False) == []
    assert store.exists(run)


def test_what_a_living_process_made_or_uses_is_never_collected(store: Store, clock: Clock, make: Maker) -> None:
    made, used, left = (make("snapshot", body={"n": number}) for number in range(3))
    key = store.action("prepare", 1, {}, [], 0)
    store.record(key, used)
    store.close()
    with open_store(store.root, clock=clock) as writer, open_store(store.root, clock=clock) as collector:
        put(writer, "snapshot", body={"n": 0})
        assert writer.done(key) == used
        assert collector.collect(False, older_than_s=0) == [left]
        assert collector.exists(made)
    assert sorted(store.collect(False, older_than_s=0)) == sorted([made, used])


def test_a_draft_of_a_dead_process_is_swept_and_a_living_ones_is_not(tmp_path: Path) -> None:
    root = tmp_path / "s"
    script = (
        "import sys, os; from pathlib import Path; from budwood.store import open_store\n"
        "store = open_store(Path(sys.argv[1]))\n"
        "with store.draft('run') as draft:\n"
        "    (draft.folder / 'half').write_text('x')\n"
        "    print(draft.folder, flush=True)\n"
        "    sys.stdin.readline()\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    half = Path(child.stdout.readline().strip()) / "half"
    with open_store(root):
        assert half.exists()
    child.communicate("die\n", timeout=60)
    assert half.exists()
    with open_store(root):
        assert not half.exists()
        assert list((root / "tmp").glob("draft*")) == []


def test_a_removed_object_explains_itself_and_is_accepted(store: Store, make: Maker) -> None:
    snapshot = make("snapshot", {"train.jsonl": "secret"})
    release = make("release", parents=[snapshot])
    store.add_release("support", release, who="anna", reason="")
    store.move_alias("support", "production", release, who="anna", reason="")
    store.attach(snapshot, "card.html", b"secret")
    stone = store.tombstone(snapshot, who="anna", reason="a customer asked")
    with pytest.raises(StoreError) as caught:
        store.file(snapshot, "train.jsonl")
    assert str(caught.value) == (
        f"The bytes of snapshot {snapshot[:12]}… were removed on 2026-09-01 by anna: a customer asked\n"
        "    What was made from it stands; the object itself cannot be brought back."
    )
    report = store.verify()
    assert report.ok
    assert report.forgotten == (stone,)
    assert store.history()[-1].kind == "forgotten"
    assert b"secret" not in b"".join(path.read_bytes() for path in store.root.rglob("*") if path.is_file())
    assert store.tombstone(snapshot, who="ben", reason="again") == stone
    assert len([event for event in store.history() if event.kind == "forgotten"]) == 1
    with pytest.raises(StoreError, match="were removed"):
        make("snapshot", {"train.jsonl": "secret"})


def test_bad_61_what_is_live_cannot_be_removed(store: Store, make: Maker) -> None:
    adapter = make("adapter")
    release = make("release", parents=[adapter])
    store.add_release("support", release, who="anna", reason="")
    store.move_alias("support", "production", release, who="anna", reason="")
    for digest in (release, adapter):
        with pytest.raises(StoreError, match="is live: support@production is at release"):
            store.tombstone(digest, who="anna", reason="oops")
    assert store.verify().ok
    with pytest.raises(StoreError, match="needs a reason"):
        store.tombstone(make("snapshot"), who="anna", reason=" ")


def test_a_planted_tombstone_is_noticed(store: Store, make: Maker) -> None:
    digest = make()
    folder = store.folder(digest)
    with open_store(store.root.parent / "other") as other:
        same = put(other, "snapshot")
        other.tombstone(same, who="x", reason="x")
        (folder / "tombstone.json").write_bytes((other.root / "objects" / same[:2] / same / "tombstone.json").read_bytes())
    name = f"object {digest[:12]}…: "
    assert store.verify().problems == (
        f"{name}a.txt is still here after the removal; run `budwood data forget --finish`",
        f"{name}manifest.json is still here after the removal; run `budwood data forget --finish`",
        f"{name}has a tombstone, but no event says so; run `budwood data forget --finish`",
    )
    store.collect(False)
    assert (folder / "a.txt").exists(), "a tombstone that nobody has on record is not obeyed"


def test_a_removal_that_was_cut_short_is_named_and_finished_by_a_collection(store: Store, make: Maker) -> None:
    digest = make("snapshot", {"train.jsonl": "secret"})
    store.attach(digest, "card.html", b"secret")
    folder, beside = store.folder(digest), store.attachment(digest, "card.html")
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    store.tombstone(digest, who="anna", reason="asked for")
    for path, data in whole.items():
        path.write_bytes(data)
    beside.parent.mkdir()
    beside.write_bytes(b"secret")
    name = f"object {digest[:12]}…: "
    again = "is still here after the removal; run `budwood data forget --finish`"
    assert store.verify().problems == (
        f"{name}manifest.json {again}",
        f"{name}train.jsonl {again}",
        f"{name}attachment card.html {again}",
    )
    store.collect(True)
    assert (folder / "train.jsonl").exists()
    store.collect(False)
    assert [path.name for path in folder.iterdir()] == ["tombstone.json"]
    assert not beside.exists()
    assert store.verify().ok


@pytest.mark.parametrize(("key", "value"), [("reason", "spring cleaning"), ("parents", ["ab" * 32]), ("at", "2020-01-01")])
def test_an_edited_tombstone_is_noticed_and_not_obeyed(store: Store, make: Maker, key: str, value: object) -> None:
    digest = make()
    path = store.folder(digest) / "tombstone.json"
    stone = store.tombstone(digest, who="anna", reason="asked for")
    path.write_text(json.dumps(json.loads(stone.encode()) | {key: value}))
    edited = f"object {digest[:12]}…: its tombstone is not the one of event 1: it was edited"
    assert store.verify().problems == (edited,)
    with pytest.raises(StoreError, match="is not the one of event 1: it was edited"):
        store.tombstone(digest, who="anna", reason="again")
    path.write_bytes(stone.encode())
    assert store.verify().ok


def test_an_event_that_does_not_name_its_tombstone_is_accepted(store: Store, make: Maker) -> None:
    digest = make()
    stone = store.tombstone(digest, who="anna", reason="asked for")
    assert stone.fits({})
    assert stone.fits(store.history()[0].detail)
    assert not replace(stone, reason="other").fits(store.history()[0].detail)


def test_bytes_that_come_back_after_a_removal_are_noticed_and_removed_again(store: Store, make: Maker) -> None:
    digest = make("snapshot", {"train.jsonl": "secret"})
    folder = store.folder(digest)
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    store.tombstone(digest, who="anna", reason="asked for")
    (folder / "tombstone.json").unlink()
    for path, data in whole.items():
        path.write_bytes(data)
    assert store.verify().problems == (
        f"object {digest[:12]}…: is here, but event 1 removed it; run `budwood data forget --finish`",
    )
    store.tombstone(digest, who="ben", reason="a backup brought it back")
    assert store.verify().ok
    assert [event.reason for event in store.history()] == ["asked for", "a backup brought it back"]


@pytest.fixture
def just_before(store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Store], object]], None]:
    """Let somebody act once, just before the gate is shut."""

    def arrange(act: Callable[[Store], object]) -> None:
        @contextmanager
        def late(tmp: Path, *, exclusive: bool) -> Iterator[None]:
            if exclusive:
                monkeypatch.undo()
                with open_store(store.root) as somebody:
                    act(somebody)
            with gate(tmp, exclusive=exclusive):
                yield

        monkeypatch.setattr("budwood.store.room.gate", late)

    return arrange


def test_a_release_that_is_registered_just_before_a_collection_is_kept(
    store: Store, make: Maker, just_before: Callable[[Callable[[Store], object]], None]
) -> None:
    release, loose = make("release"), make("adapter")
    store.close()
    just_before(lambda somebody: somebody.add_release("support", release, who="ben", reason=""))
    assert store.collect(False, older_than_s=-60) == [loose]
    assert store.verify().ok


def test_a_release_that_goes_live_just_before_its_removal_is_kept(
    store: Store, make: Maker, just_before: Callable[[Callable[[Store], object]], None]
) -> None:
    release = make("release")
    store.add_release("support", release, who="anna", reason="")
    just_before(lambda somebody: somebody.move_alias("support", "production", release, who="ben", reason=""))
    with pytest.raises(StoreError, match="is live: support@production"):
        store.tombstone(release, who="anna", reason="asked for")
    assert store.verify().ok


def test_names_pass_the_gate_so_that_a_collection_waits_for_them(
    store: Store, make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = make("release")
    shut: list[str] = []

    def watch(name: str) -> None:
        real = getattr(Registry, name)

        def call(*arguments: Any, **keys: Any) -> Any:
            with (store.root / "tmp" / ".gate").open("rb+") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    shut.append(name)
            return real(*arguments, **keys)

        monkeypatch.setattr(Registry, name, call)

    watch("add")
    watch("move")
    store.add_release("support", release, who="anna", reason="")
    store.move_alias("support", "production", release, who="anna", reason="")
    assert shut == ["add", "move"]


@pytest.mark.parametrize("call", ["fsync", "mkdir", "rename", "link"])
def test_bad_58_a_full_disk_leaves_no_half_object_and_says_what_is_free(
    store: Store, make: Maker, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    make("base")
    seen = [0]
    real = getattr(os, call)

    def full(*args: Any, **keys: Any) -> Any:
        seen[0] += 1
        if seen[0] > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **keys)

    before = sorted(store.objects())
    monkeypatch.setattr(os, call, full)
    if call in {"rename", "link"}:
        seen[0] = 1
    with pytest.raises(StoreError) as caught:
        make("run", {"weights": "x" * 5000})
    monkeypatch.undo()
    assert caught.value.what.startswith("The disk is full: a run was not stored")
    assert "bytes are free" in caught.value.what
    assert sorted(store.objects()) == before
    assert store.verify().ok
    assert [name for name in os.listdir(store.root / "tmp") if name.startswith("draft")] == []
    make("run", {"weights": "x" * 5000})


def test_a_stage_that_fills_the_disk_gets_our_error(store: Store) -> None:
    with (
        pytest.raises(StoreError, match=r"5,000 bytes were needed so far, [\d,]+ bytes are free"),
        store.draft("run") as draft,
    ):
        _fill(draft.folder)
    assert list(store.objects()) == []


def test_a_library_that_hides_the_errno_is_understood_too(store: Store) -> None:
    with pytest.raises(StoreError, match="The disk is full"), store.draft("run"):
        _complain()


def _fill(folder: Path) -> None:
    (folder / "big").write_bytes(b"x" * 5000)
    raise OSError(errno.ENOSPC, "No space left on device")


def _complain() -> None:
    raise RuntimeError("I/O error: No space left on device (os error 28)")


def test_a_really_full_file_system(tmp_path: Path) -> None:
    """With a tiny tmpfs where we may mount one: the kernel's own ENOSPC, at every step."""
    mount = tmp_path / "tiny"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        with open_store(mount / "s") as store:
            digest = put(store, "base")
            store.aliases()
            with pytest.raises(StoreError, match="The disk is full: a run was not stored"):
                put(store, "run", {"weights": "x" * (1 << 20)})
            assert list(store.objects()) == [digest]
            assert store.verify().ok
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def test_bad_58_a_read_only_store_reads_and_refuses_to_write(store: Store, make: Maker) -> None:
    digest = make("release")
    store.add_release("support", digest, who="anna", reason="")
    store.close()
    with open_store(store.root, read_only=True) as reader:
        assert reader.find_release("support@1").digest == digest
        assert reader.verify().ok
        assert reader.children(digest) == []
        assert reader.done("ab" * 32) is None
        for call in (
            lambda: put(reader, "run"),
            lambda: reader.attest(digest, {}),
            lambda: reader.attach(digest, "a", b""),
            lambda: reader.work("x"),
            lambda: reader.record("ab" * 32, digest),
            lambda: reader.add_release("other", digest, who="x", reason=""),
            lambda: reader.move_alias("support", "production", digest, who="x", reason=""),
            lambda: reader.observe("s", "support", "production", digest, True, ""),
            lambda: reader.collect(True),
            lambda: reader.tombstone(digest, who="x", reason="x"),
            lambda: reader.accept_history(who="x", reason="x"),
        ):
            with pytest.raises(StoreError, match="The store may not be written"):
                call()
    assert store.verify().ok


def test_a_store_on_a_read_only_file_system(tmp_path: Path) -> None:
    with open_store(tmp_path / "s") as store:
        digest = put(store, "release")
        store.add_release("support", digest, who="anna", reason="")
    mount = tmp_path / "ro"
    mount.mkdir()
    subprocess.run(["mount", "--bind", str(tmp_path / "s"), str(mount)], capture_output=True, check=False)
    done = subprocess.run(["mount", "-o", "remount,ro,bind", str(mount)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("a read-only mount needs root")
    try:
        with open_store(mount) as store:
            assert store.read_only
            assert store.find_release("support@1").digest == digest
            with pytest.raises(StoreError, match="this folder is read-only"):
                put(store, "run")
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


@on_sqlite
def test_a_locked_catalog_is_said_and_nothing_changes(store: Store, make: Maker) -> None:
    digest = make("release")
    blocker = sqlite3.connect(store.root / "catalog.sqlite", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with open_store(store.root, wait_s=0.05) as hasty:
        with pytest.raises(StoreError) as caught:
            hasty.add_release("support", digest, who="anna", reason="")
        assert str(caught.value) == (
            f"The catalog is locked by another process; waited 0.05 s. In {store.root / 'catalog.sqlite'}.\n"
            "    Nothing was changed. Let the other command finish, then run again."
        )
        assert hasty.releases() == []
    blocker.execute("ROLLBACK")
    blocker.close()
    assert store.add_release("support", digest, who="anna", reason="") == 1


def test_a_damaged_catalog_is_said(tmp_path: Path) -> None:
    root = tmp_path / "s"
    open_store(root).close()
    (root / "catalog.sqlite").write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(StoreError, match="The catalog is damaged"):
        open_store(root).aliases()


@on_sqlite
def test_a_lost_catalog_loses_no_object(store: Store, make: Maker) -> None:
    parent = make("base")
    child = make("adapter", parents=[parent])
    store.close()
    for path in store.root.glob("catalog.sqlite*"):
        path.unlink()
    assert store.children(parent) == [child]
    assert sorted(store.objects()) == sorted([parent, child])


@on_sqlite
def test_a_catalog_of_a_newer_budwood_is_refused(store: Store) -> None:
    store.aliases()
    store.close()
    edit(store, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match="schema 9999; this Budwood knows schemas up to"):
        store.aliases()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://me:hunter2@db/x", "holds a password"),
        ("mysql://me@db/x", "cannot be kept in 'mysql'"),
        ("::hunter2::", "cannot be read"),
    ],
)
def test_a_url_that_will_not_do_is_refused_without_showing_it(tmp_path: Path, url: str, words: str) -> None:
    with pytest.raises(StoreError, match=words) as caught:
        open_store(tmp_path / "s", url=url).aliases()
    assert "hunter2" not in str(caught.value)
    assert not (tmp_path / "s" / "catalog.url").exists()


def test_what_took_the_place_of_a_removed_object_is_its_result_from_then_on(store: Store, make: Maker) -> None:
    first, second, third = (make("snapshot", body={"n": number}) for number in range(3))
    key = store.action("prepare", 1, {}, [], 0)
    store.record(key, first)
    stone = store.tombstone(first, who="anna", reason="a customer asked", successor=second)
    assert stone.successor == second
    assert store.done(key) == store.current(first) == store.current(second) == second
    with pytest.raises(StoreError, match=f"In its place stands {second[:12]}…"):
        store.manifest(first)
    store.tombstone(second, who="anna", reason="another asked", successor=third)
    assert store.done(key) == store.current(first) == third
    store.tombstone(third, who="anna", reason="all of it")
    assert store.done(key) is None
    assert store.current(first) == third
    assert store.verify().ok


def test_a_tombstone_without_a_successor_has_the_bytes_that_it_always_had(store: Store, make: Maker) -> None:
    stone = store.tombstone(make(), who="anna", reason="asked for")
    assert set(json.loads(stone.encode())) == {"digest", "kind", "parents", "reason", "who", "at"}


def test_what_took_the_place_is_not_collected(store: Store, clock: Clock, make: Maker) -> None:
    first, second, loose = (make("snapshot", body={"n": number}) for number in range(3))
    release = make("release", parents=[first])
    store.add_release("support", release, who="anna", reason="")
    store.tombstone(first, who="anna", reason="a customer asked", successor=second)
    store.close()
    clock.now += timedelta(days=8)
    assert store.collect(False) == [loose]
    assert store.exists(second)


def test_data_and_reports_of_a_live_release_may_go_and_what_it_answers_with_may_not(store: Store, make: Maker) -> None:
    kinds = ("base", "adapter", "model", "snapshot", "report", "run")
    made = {kind: make(kind, body={"kind": kind}) for kind in kinds}
    release = make("release", parents=list(made.values()))
    store.add_release("support", release, who="anna", reason="")
    store.move_alias("support", "production", release, who="anna", reason="")
    for kind in ("base", "adapter", "model"):
        with pytest.raises(StoreError, match="is live: support@production"):
            store.tombstone(made[kind], who="anna", reason="oops")
    for kind in ("snapshot", "report", "run"):
        store.tombstone(made[kind], who="anna", reason="asked for")
    assert store.verify().ok


def test_what_another_process_works_with_is_not_removed(store: Store, make: Maker) -> None:
    digest, other = make("snapshot", body={"n": 1}), make("snapshot", body={"n": 2})
    key = store.action("prepare", 1, {}, [], 0)
    store.record(key, digest)
    removal = Removal({other: None, digest: None})
    with open_store(store.root) as training:
        training.done(key)
        assert store.held_elsewhere() == {digest}
        for call in (
            lambda: store.tombstone(digest, who="anna", reason="asked for"),
            lambda: store.remove(removal, who="anna", reason="asked for"),
        ):
            with pytest.raises(StoreError, match=f"The snapshot {digest[:12]}… is in use: a command that is running"):
                call()
    assert store.exists(other)
    assert store.history() == []
    store.remove(removal, who="anna", reason="asked for")
    assert [event.kind for event in store.history()] == ["removal_begun", "forgotten", "forgotten", "removal_ended"]


def test_a_removal_takes_files_beside_what_stays_and_in_work_folders(store: Store, make: Maker) -> None:
    run, snapshot = make("run"), make("snapshot")
    page = store.attach(run, "deep/page.html", b"secret")
    kept = store.work("ab" * 32) / "probes.json"
    kept.write_bytes(b"secret")
    removal = Removal({snapshot: None}, ((run, "deep/page.html"),), (("ab" * 32, "probes.json"),), {"rows": 3})
    store.remove(removal, who="anna", reason="asked for")
    assert not page.exists()
    assert not kept.exists()
    assert store.unfinished_removals() == []
    assert store.finish_removals() == 0
    assert store.history()[0].detail["facts"] == {"rows": 3}
    assert store.verify().ok


@pytest.mark.parametrize("work", [("../objects", "x"), ("ab", "../../catalog.sqlite"), ("ab", "/etc/passwd")])
def test_a_removal_leaves_no_folder_of_its_own(store: Store, make: Maker, work: tuple[str, str]) -> None:
    removal = Removal({make(): None}, (), (work,))
    with pytest.raises(StoreError):
        store.remove(removal, who="anna", reason="asked for")
    with pytest.raises(StoreError, match="needs a reason"):
        store.remove(replace(removal, work=()), who="anna", reason=" ")
    assert Path(store.catalog_place()).exists() or "://" in store.catalog_place()
    assert store.history() == []
