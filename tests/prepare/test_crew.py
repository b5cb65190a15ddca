"""Several processes: the same snapshot for any number of them, and none is left behind, whatever ends the work."""

import errno
import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from budwood.errors import DataError, RecipeError
from budwood.prepare import run
from budwood.prepare.crew import Crew
from budwood.store import open_store

WORDS = [f"{a}{b}" for a in ("par", "ket", "mo", "sil", "ran") for b in ("cel", "tle", "na", "ver", "dom", "fik")]


def many_rows(count: int) -> list[dict[str, Any]]:
    draw = random.Random(4)
    return [{"prompt": " ".join(draw.choices(WORDS, k=draw.choice([5, 30, 70]))), "completion": "ok"} for _ in range(count)]


class Odd:
    """A worker of the tests; importable by others as tests.prepare.test_crew."""

    def __init__(self, given: int, name: str) -> None:
        self.given, self.name = given, name

    def close(self) -> None:
        pass

    def add(self, value: int) -> int:
        return self.given + value

    def fail(self, kind: str) -> int:
        if kind == "fault":
            raise RecipeError("No.", where="here", mend="Mend it.")
        if kind == "disk":
            raise OSError(errno.ENOSPC, "No space left on device")
        if kind == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError(kind)


def children() -> set[str]:
    return {path.name for path in Path("/proc/self/task").glob("*/children") for path in map(Path, path.read_text().split())}


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_results_come_in_the_order_of_the_tasks(processes: int) -> None:
    with Crew(Odd, (100,), processes) as crew:
        assert list(crew.each("add", ((value,) for value in range(50)))) == list(range(100, 150))
        assert list(crew.each("add", iter([]))) == []
    assert not children()


@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        ("fault", RecipeError, "No. In here.\n    Mend it."),
        ("disk", OSError, "No space left on device"),
        ("other", RuntimeError, "ValueError: other"),
        ("die", DataError, "A process that prepared rows ended before its work was done (SIGKILL)."),
    ],
)
def test_what_a_process_runs_into_is_raised_here(kind: str, error: type[Exception], said: str) -> None:
    with Crew(Odd, (0,), 2) as crew, pytest.raises(error) as caught:
        list(crew.each("fail", ((kind,) for _ in range(9))))
    assert said in str(caught.value)
    assert not children()


def test_the_first_fault_of_a_file_is_raised_whoever_meets_one_first(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budwood.prepare.files.BLOCK_BYTES", 2048)
    rows = [*many_rows(300), {"prompt": "no answer"}, *many_rows(100), {"prompt": "none either"}, *many_rows(100)]
    name = bench.write("rows.jsonl", rows)
    for processes in (1, 2, 3):
        with pytest.raises(DataError, match=r"rows\.jsonl line 301\) has no answer"):
            bench.prepare(name, no_target="error", processes=processes)


def test_a_process_that_the_system_ends_leaves_the_store_as_it_was(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name = bench.write("rows.jsonl", many_rows(400))
    monkeypatch.setattr("budwood.prepare.files.BLOCK_BYTES", 2048)
    told: list[int] = []

    def kill_one(event: Any) -> None:
        if not told and event.message.startswith("Reading") and event.done:
            told.append(event.done)
            os.kill(int(min(children(), key=int)), signal.SIGKILL)

    with pytest.raises(DataError, match="ended before its work was done"):
        run.prepare(bench.recipe(name), bench.store, token_length=None, context=0, processes=2, report=kill_one)
    assert told
    assert not children()
    assert not list(bench.store.objects())
    assert bench.prepare(name).kept


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("limit", [20_000, 300_000])
def test_a_full_disk_is_said_and_nothing_is_stored(bench: Any, tmp_path: Path, processes: int, limit: int) -> None:
    """A limit on the size of files fails as a full disk does: while spools are written, and while the row files are."""
    bench.write("rows.jsonl", many_rows(1500))
    code = f"""
        import resource, signal
        from pathlib import Path
        from budwood.errors import StoreError
        from budwood.prepare.run import prepare
        from budwood.recipe import recipe_from_mapping
        from budwood.store import open_store
        with open_store(Path({str(tmp_path / "project")!r})) as store:
            given = {{"name": "x", "source": [{{"path": "rows.jsonl"}}]}}
            recipe = recipe_from_mapping(given, folder=Path({str(bench.folder)!r}))
            resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
            try:
                prepare(recipe, store, token_length=None, context=0, processes={processes})
            except StoreError as error:
                print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=environment())
    assert done.stdout.startswith("The disk is full: a snapshot was not stored;"), done.stderr
    assert not list(bench.store.objects())
    assert not [path for path in (bench.store.root / "tmp").iterdir() if path.name.startswith("draft")]
    assert bench.prepare("rows.jsonl").body["counts"]["read"] == 1500


@pytest.mark.parametrize("moment", ["Reading", "Looking for near-duplicates", "Writing"])
def test_a_kill_at_any_moment_leaves_the_store_as_it_was(bench: Any, tmp_path: Path, moment: str) -> None:
    rows = many_rows(900)
    name = bench.write("rows.jsonl", rows)
    code = f"""
        import os, signal
        from pathlib import Path
        from budwood.prepare import files
        from budwood.prepare.run import prepare
        from budwood.recipe import recipe_from_mapping
        from budwood.store import open_store
        files.BLOCK_BYTES = 8192
        def kill(event):
            if event.message.startswith({moment!r}) and event.done:
                os.kill(os.getpid(), signal.SIGKILL)
        with open_store(Path({str(tmp_path / "project")!r})) as store:
            given = {{"name": "x", "source": [{{"path": "rows.jsonl"}}]}}
            recipe = recipe_from_mapping(given, folder=Path({str(bench.folder)!r}))
            prepare(recipe, store, token_length=None, context=0, processes=2, report=kill)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, env=environment())
    assert done.returncode == -signal.SIGKILL, done.stderr
    with open_store(tmp_path / "project") as store:
        assert not list(store.objects())
        # What the dead one had begun is swept when the store is opened.
        assert not [path for path in (store.root / "tmp").iterdir() if path.name.startswith("draft")]
    snapshot = bench.prepare(name)
    assert snapshot.body["counts"]["read"] == len(rows) == len(snapshot.kept) + len(snapshot.rejected)


def test_lengths_are_counted_in_every_process(bench: Any) -> None:
    from budwood.engine.base import resolve_base
    from budwood.pipeline.counting import TemplateLengths

    name = bench.write("rows.jsonl", [*many_rows(60), {"prompt": "x", "completion": "y" * 4000}])
    ref = resolve_base("seedling", start=bench.folder)
    digests = {
        bench.prepare(name, token_length=TemplateLengths(ref), context=512, processes=processes).digest for processes in (1, 2)
    }
    assert len(digests) == 1
    body = bench.store.manifest(digests.pop()).body
    assert body["lengths"]["train"]["rows"] == body["counts"]["train"]
    assert body["rejected_by"]["length"] == 1


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
