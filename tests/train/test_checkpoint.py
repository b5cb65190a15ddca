import os
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


def test_left_over_scratch_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".77.tmp").mkdir()
    Checkpoints(tmp_path, silent)
    assert list(tmp_path.iterdir()) == []
