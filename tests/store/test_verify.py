"""Verification lists all damage and stops at none, and finds none in a healthy store that is in use."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from budwood.errors import StoreError
from budwood.events import Event
from budwood.identity import Digest, canonical_json, digest_bytes, digest_file
from budwood.store import Store, open_store
from budwood.store.ledger import Ledger

from .conftest import Clock, Maker, edit, put


@pytest.fixture
def live(store: Store, make: Maker) -> Digest:
    """A release that production points to, on a base: events 1 and 2."""
    release = make("release", parents=[make("base")])
    store.add_release("support", release, who="anna", reason="")
    store.move_alias("support", "production", release, who="anna", reason="")
    return release


def writable(path: Path) -> Path:
    path.chmod(0o644)
    return path


def delete(path: Path) -> None:
    path.unlink()


def garble(path: Path) -> None:
    path.write_text("{")


def newer(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"format":1', b'"format":2'))


def bury_badly(path: Path) -> None:
    (path.parent / "tombstone.json").write_text('{"digest": "no"}')


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (delete, "has no manifest.json."),
        (garble, "was altered: its bytes hash to"),
        (newer, "was altered: its bytes hash to"),
        (bury_badly, "The tombstone.json of"),
    ],
)
def test_one_damaged_object_does_not_hide_the_next(
    store: Store, make: Maker, damage: Callable[[Path], None], said: str
) -> None:
    digests = [make("snapshot", {"a.txt": str(number)}) for number in range(3)]
    damage(writable(store.folder(digests[0]) / "manifest.json"))
    writable(store.folder(digests[2]) / "a.txt").write_text("9")
    problems = store.verify().problems
    assert len(problems) == 2
    assert any(problem.startswith(f"object {digests[0][:12]}…: ") and said in problem for problem in problems), problems
    assert f"object {digests[2][:12]}…: a.txt was altered" in problems


def test_an_object_of_a_newer_format_is_a_line(store: Store) -> None:
    data = canonical_json({"format": 2, "kind": "run", "files": [], "parents": [], "body": {}})
    digest = digest_bytes(data)
    folder = store.root / "objects" / digest[:2] / digest
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes(data)
    problems = store.verify().problems
    assert problems == (f"object {digest[:12]}…: Object {digest[:12]}… has format 2; this Budwood reads format 1.",)


def test_a_file_with_manifest_in_its_name_is_a_file_like_others(store: Store, make: Maker, live: Digest) -> None:
    digest = make("release", {"manifest.csv": "a"}, body={"n": 2})
    store.move_alias("support", "staging", live, who="anna", reason="")
    store.add_release("support", digest, who="anna", reason="")
    writable(store.folder(digest) / "manifest.csv").write_text("b")
    assert store.verify().problems == (f"object {digest[:12]}…: manifest.csv was altered",)


@pytest.mark.parametrize(("number", "words"), [(errno.EIO, "Input/output error"), (errno.EACCES, "Permission denied")])
def test_a_file_that_the_disk_does_not_give_back_is_a_line(
    store: Store, make: Maker, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    bad, good = make("run", {"weights": "x"}), make("run", {"weights": "y"})
    writable(store.folder(good) / "weights").write_text("z")
    real_bytes = Path.read_bytes
    folder = store.folder(bad)

    def refuse(path: Path, real: Callable[[Path], Any]) -> Any:
        if path.is_relative_to(folder):
            raise OSError(number, os.strerror(number), str(path))
        return real(path)

    monkeypatch.setattr("budwood.store.objects.digest_file", lambda path: refuse(path, digest_file))
    assert set(store.verify().problems) == {
        f"object {bad[:12]}…: weights cannot be read: {words}",
        f"object {good[:12]}…: weights was altered",
    }
    monkeypatch.setattr(Path, "read_bytes", lambda path: refuse(path, real_bytes))
    assert f"object {good[:12]}…: weights was altered" in store.verify().problems
    assert any(words in problem for problem in store.verify().problems)


def test_a_head_file_that_is_a_folder_is_a_line_and_can_be_mended(store: Store, live: Digest) -> None:
    head = store.root / "history.head"
    head.unlink()
    head.mkdir()
    assert store.verify().problems == ("history: the file history.head cannot be read",)
    before = store.history()
    with pytest.raises(StoreError, match=r"The file history.head was not stored"):
        store.accept_history(who="anna", reason="odd")
    assert store.history() == before
    head.rmdir()
    store.accept_history(who="anna", reason="odd")
    assert store.verify().ok


def test_a_folder_that_cannot_be_listed_is_a_line(store: Store, make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = [make("run", {"weights": str(number)}) for number in range(4)]
    shut = store.root / "objects" / digests[0][:2]
    writable(store.folder(digests[1]) / "weights").write_text("9")
    real = Path.iterdir

    def iterdir(path: Path) -> Any:
        if path == shut:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    problems = store.verify().problems
    assert f"objects/{shut.name} cannot be listed: Permission denied" in problems
    assert f"object {digests[1][:12]}…: weights was altered" in problems


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE aliases SET seq = 1", "alias support@production: names event 1, the history says 2"),
        (
            "UPDATE releases SET created_at = '2020-01-01T00:00:00.000000+00:00'",
            "release support@1: was made at 2020-01-01T00:00:00.000000+00:00, the history says ",
        ),
        ("INSERT INTO actions VALUES (x'00', 'ff', '')", "its result ff… is missing or damaged"),
    ],
)
def test_edited_tables_are_noticed(store: Store, live: Digest, statement: str, said: str) -> None:
    store.record("ab" * 32, live)
    edit(store, statement)
    problems = store.verify().problems
    assert len(problems) == 1
    assert said in problems[0]


def test_an_object_that_vanished_is_noticed_by_the_catalog(store: Store, make: Maker) -> None:
    kept, gone = make("run", {"weights": "1"}), make("run", {"weights": "2"})
    folder = store.folder(gone)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert store.verify().problems == (f"object {gone[:12]}… (run): is in the catalog, but gone from objects/",)
    assert list(store.objects()) == [kept]


class Meanwhile:
    """A reporter that lets somebody else act between the hashing of two objects."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act: Callable[[], None] | None = act

    def __call__(self, event: Event) -> None:
        act, self._act = self._act, None
        if act is not None:
            act()


def test_a_store_in_use_is_healthy(store: Store, make: Maker, clock: Clock, live: Digest) -> None:
    snapshot = make("snapshot", {"train.jsonl": "secret"})
    loose = make("run", {"weights": "1"}, parents=[snapshot])
    store.record("cd" * 32, loose)
    store.close()

    with open_store(store.root, clock=clock) as other:

        def promote() -> None:
            second = put(other, "release", body={"n": 2}, parents=[snapshot])
            other.add_release("support", second, who="ben", reason="")
            other.move_alias("support", "production", second, who="ben", reason="")

        def collect() -> None:
            assert other.collect(False, older_than_s=0) == [loose]

        def remove() -> None:
            other.tombstone(snapshot, who="ben", reason="asked for")

        for act in (promote, collect, remove):
            report = store.verify(Meanwhile(act))
            assert report.problems == (), act.__name__
        assert store.verify().ok


def test_a_head_file_that_moves_on_while_it_is_read_is_no_fault(
    store: Store, make: Maker, clock: Clock, live: Digest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may lag behind the catalog, never lead: so it is read first."""
    real = Ledger.read_file

    def late(ledger: Ledger) -> object:
        monkeypatch.undo()
        with open_store(store.root, clock=clock) as other:
            other.move_alias("support", "staging", live, who="ben", reason="")
        return real(ledger)

    monkeypatch.setattr(Ledger, "read_file", late)
    report = store.verify()
    assert (report.problems, report.events) == ((), 3)


def test_real_damage_is_found_in_a_store_in_use(store: Store, make: Maker, clock: Clock, live: Digest) -> None:
    loose = make("run", {"weights": "1"})
    store.record("cd" * 32, loose)
    writable(store.folder(live) / "a.txt").write_text("b")
    edit(store, "UPDATE aliases SET seq = 1")
    with open_store(store.root, clock=clock) as other:
        report = store.verify(Meanwhile(lambda: other.server_beat("a")))
    assert report.problems == (
        f"object {live[:12]}…: a.txt was altered",
        "alias support@production: names event 1, the history says 2",
    )


UNREADABLE = [
    ("UPDATE history SET detail = '{\"a\": NaN}' WHERE seq = 2", "event 2 cannot be read: detail is '{\"a\": NaN}'"),
    ("UPDATE history SET who = x'00ff' WHERE seq = 1", "event 1 cannot be read: who is b'\\x00\\xff'"),
    ("UPDATE history SET at = 'soon' WHERE seq = 2", "event 2 cannot be read: at is 'soon'"),
    ("UPDATE history SET at = '2026-01-01T00:00:00' WHERE seq = 2", "event 2 cannot be read: at is '2026-01-01T00:00:00'"),
    ("UPDATE history SET digest = x'01' WHERE seq = 2", "event 2 cannot be read: digest is b'\\x01'"),
    ("UPDATE history SET who = CAST(x'ff' AS TEXT) WHERE seq = 2", "event 2 (promoted) was edited"),
]


@pytest.mark.parametrize(("statement", "said"), UNREADABLE)
def test_an_event_that_cannot_be_read_is_named_and_can_be_accepted(
    store: Store, backend: str, live: Digest, statement: str, said: str
) -> None:
    if "= x'" in statement and backend.startswith("postgresql"):
        # A column of text holds no bytes there: what is written is another text, and no less an edit.
        said = "event 1 (released) was edited" if "seq = 1" in statement else "event 2 (promoted) was edited"
    edit(store, statement)
    report = store.verify()
    assert f"history: {said}" in report.problems
    assert report.accepted == ()
    event = store.accept_history(who="carla", reason="restored")
    assert f"history: {said}" in event.detail["faults"]
    report = store.verify()
    assert report.ok, report.problems
    assert f"history: {said} (accepted by carla in event 3: restored)" in report.accepted
    store.add_release("support", put(store, "release", body={"n": 2}), who="anna", reason="")
    assert store.verify().ok
    # A second change at the same place was accepted by nobody.
    edit(store, "UPDATE history SET reason = 'forged' WHERE seq = " + said.split()[1])
    assert f"history: {said}" in store.verify().problems


def test_an_end_that_was_cut_off_stays_listed_after_it_was_accepted(store: Store, live: Digest) -> None:
    store.move_alias("support", "staging", live, who="anna", reason="")
    edit(store, "DELETE FROM history WHERE seq = 3", "DELETE FROM aliases WHERE alias = 'staging'")
    (fault,) = store.verify().problems
    assert fault.startswith("history: the head row says event 3")
    store.accept_history(who="carla", reason="an older catalog was put back")
    report = store.verify()
    assert report.ok
    assert report.accepted == (f"{fault} (accepted by carla in event 3: an older catalog was put back)",)
