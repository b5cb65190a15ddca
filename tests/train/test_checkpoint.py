"""Checkpoints and the other files of a work folder: whole or not there, also when the disk refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from budwood.errors import TrainingError
from budwood.events import Event, silent
from budwood.train.checkpoint import Checkpoints


def test_the_newest_comes_back_and_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, silent)
    for step in (3, 6, 9):
        checkpoints.save(step, {"weight.a": torch.tensor([1.5, float(step)])}, {"tokens": step})
    saved = checkpoints.newest()
    assert saved is not None
    assert (saved.step, saved.facts) == (9, {"tokens": 9})
    assert torch.equal(saved.tensors["weight.a"], torch.tensor([1.5, 9.0]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000006", "step-000009"]
    assert checkpoints.last_step() == 9


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
def test_a_damaged_one_is_said_and_passed_over(tmp_path: Path, name: str) -> None:
    events: list[Event] = []
    checkpoints = Checkpoints(tmp_path, events.append)
    for step in (3, 6):
        checkpoints.save(step, {"weight.a": torch.zeros(2)}, {})
    path = tmp_path / "step-000006" / name
    path.write_bytes(path.read_bytes()[:-1])
    saved = checkpoints.newest()
    assert saved is not None
    assert saved.step == 3
    assert events == [Event("train", "Checkpoint step-000006 is damaged, looking for an older one")]


def test_a_full_disk_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path, silent)
    checkpoints.save(3, {"weight.a": torch.zeros(2)}, {})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(TrainingError, match="The checkpoint of step 6 could not be written"):
        checkpoints.save(6, {"weight.a": torch.zeros(2)}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["step-000003"]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from budwood.engine.packed import Encoded
from budwood.errors import TrainingError
from budwood.events import silent
from budwood.train.checkpoint import Checkpoints
from budwood.train.rows import TrainRow
from budwood.train.table import write_table

folder = Path(sys.argv[1])
checkpoints = Checkpoints(folder / "checkpoints", silent)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
for work in (
    lambda: checkpoints.save(6, {"a": torch.zeros(10_000)}, {}),
    lambda: write_table(folder / "train", [TrainRow(Encoded((1,) * 10_000, (True,) * 10_000), "a", "a.jsonl", 1, 1.0)]),
):
    try:
        work()
    except TrainingError as error:
        print(error)
"""


def test_a_file_that_cannot_grow_is_a_plain_error_and_leaves_nothing(tmp_path: Path) -> None:
    """The limit on a file's size stands for a full disk: safetensors answers both with an error that is no OSError."""
    done = subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, check=False)
    assert done.stdout.count("File too large") == 2, done.stderr
    assert done.stdout.startswith("The checkpoint of step 6 could not be written: ")
    assert f"In {tmp_path / 'checkpoints'}.\n    Free some space; training goes on from the checkpoint before." in done.stdout
    assert "The rows' tokens could not be written: " in done.stdout
    assert f"In {tmp_path}.\n    Free some space, then run the same command again." in done.stdout
    assert [path.name for path in tmp_path.rglob("*")] == ["checkpoints"]
