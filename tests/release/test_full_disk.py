"""Bad input 58 for what moves a release: however far a disk lasts, what was asked for is done whole or refused whole.

Twice: with an error in the place of each system call that writes, one after the other, and on a file system that really is
full, with four more free kilobytes each time. Each try is made by a store that was just opened, as a command's is. A move of
which only the note beside the history could not be written is done, and says so.
"""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from budwood.errors import BudwoodError
from budwood.recipe import CanarySection
from budwood.release.approvals import approve, set_rule
from budwood.release.canary import promote_canary, start
from budwood.release.promote import promote, rollback
from budwood.store import Store, open_store

from .conftest import Clock, Releaser

WRITING = ("open", "write", "fsync", "mkdir", "link", "rename", "replace")
PAGE = 4096
Full = Callable[[int], Any]


@contextmanager
def injected(number: int) -> Iterator[None]:
    """From the `number`th call that writes on, the disk is full."""
    left = [number]
    patch = pytest.MonkeyPatch()

    def wrap(name: str) -> None:
        real = getattr(os, name)

        def call(*args: Any, **keys: Any) -> Any:
            reads = name == "open" and not (args[1] if len(args) > 1 else keys.get("flags", 0)) & (os.O_CREAT | os.O_WRONLY)
            if not reads:
                left[0] -= 1
                if left[0] < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **keys)

        patch.setattr(os, name, call)

    for name in WRITING:
        wrap(name)
    try:
        yield
    finally:
        patch.undo()


def really(root: Path) -> Full:
    @contextmanager
    def full(number: int) -> Iterator[None]:
        """So many pages are free, and no more."""
        ballast = root.parent / "ballast"
        free = os.statvfs(root).f_bavail * os.statvfs(root).f_frsize
        ballast.write_bytes(b"x" * max(0, free - number * PAGE))
        try:
            yield
        finally:
            ballast.unlink()

    return full


@pytest.fixture(params=["injected", "real"])
def tmp_path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder; "real": a file system of two megabytes."""
    if request.param == "injected":
        yield tmp_path
        return
    mount = tmp_path / "tiny"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(mount)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


@pytest.fixture
def full(request: pytest.FixtureRequest, store: Store) -> Full:
    return injected if "injected" in request.node.callspec.id else really(store.root)


def state(root: Path, clock: Clock) -> tuple[Any, ...]:
    with open_store(root, clock=clock) as store:
        assert store.verify().problems == ()
        left = [name for name in os.listdir(root / "tmp") if name.startswith("draft")]
        assert left == []
        return (sorted(store.objects()), store.releases(), store.aliases(), store.canaries.rows(), store.history())


def until_it_lasts(root: Path, clock: Clock, full: Full, act: Callable[[Store], object]) -> int:
    """Do it with a disk that lasts a little longer each time; give how often it was refused."""
    before = state(root, clock)
    for number in count():
        if tried(root, clock, full(number), act) == "":
            assert state(root, clock) != before
            return number
        assert state(root, clock) == before
    raise AssertionError


def tried(root: Path, clock: Clock, full: Any, act: Callable[[Store], object]) -> str:
    """Do it once; what was said when it was refused, which must be that the disk is full."""
    said = ""
    with open_store(root, clock=clock) as store:
        try:
            with full:
                act(store)
        except BudwoodError as error:
            said = str(error)
    assert not said or ("disk is full" in said and "Nothing was changed" in said), said
    return said


def bad_58_promote(store: Store) -> object:
    return promote(store, "support@2", who="dora", reason="better", override="yes", without_approvals="yes")


def bad_58_approve(store: Store) -> object:
    return approve(store, "support@2", "production", who="ben", reason="read it")


def bad_58_rollback(store: Store) -> object:
    return rollback(store, "support", who="dora", reason="worse")


def bad_58_start_canary(store: Store) -> object:
    return start(
        store,
        "support@2",
        share=0.1,
        policy=CanarySection(),
        who="dora",
        reason="try",
        override="yes",
        without_approvals="yes",
    )


def bad_58_promote_canary(store: Store) -> object:
    return promote_canary(store, "support", "production", who="dora", reason="", override="yes", without_approvals="yes")


ACTS = [bad_58_promote, bad_58_approve, bad_58_rollback, bad_58_start_canary]


@pytest.mark.parametrize("act", ACTS, ids=[act.__name__ for act in ACTS])
def test_a_move_on_a_full_disk(
    store: Store, clock: Clock, release: Releaser, full: Full, act: Callable[[Store], object]
) -> None:
    first = release(1)
    second = release(2, champion=first)
    promote(store, "support@1", who="t", reason="first")
    set_rule(store, "support", "production", approvals=1, own=False, who="anna", reason="customers read it")
    if act is bad_58_rollback:
        promote(store, f"support@{second.version}", who="t", reason="second", without_approvals="yes")
    store.close()
    refused = until_it_lasts(store.root, clock, full, act)
    # Nothing but the catalog stands between an approval and its being given: SQLite's own writes are none of Python's.
    assert refused > 0 or full is injected


def test_bad_58_a_release_made_on_a_full_disk(store: Store, clock: Clock, release: Releaser, full: Full) -> None:
    made = release(1)
    body, files = store.manifest(made.digest).body, {"probes.json": "x" * 20_000}
    store.close()

    def make(store: Store) -> object:
        with store.draft("release") as draft:
            for name, text in files.items():
                (draft.folder / name).write_text(text)
            digest = draft.commit(parents=[made.base], body={**body, "note": "another"})
        return store.add_release("support", digest, who="anna", reason="")

    before = state(store.root, clock)
    for number in count():
        if tried(store.root, clock, full(number), make) == "":
            break
        after = state(store.root, clock)
        # The object may be there without its number: nothing names it, and the same command finds it again.
        assert after[1:] == before[1:]
        assert len(after[0]) - len(before[0]) in (0, 1)
    assert number > 0
    with open_store(store.root, clock=clock) as opened:
        assert [row.version for row in opened.releases("support")] == [1, 2]
        assert opened.verify().ok
