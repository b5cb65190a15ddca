"""Killed at any moment, a training goes on and ends with the bytes of one that was never interrupted."""

import os
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.train.stopping import Stop, stopping_at

from budwood.engine.base import BaseRef
from budwood.errors import TrainingError
from budwood.events import Event, silent
from budwood.identity import Digest
from budwood.recipe import Recipe
from budwood.store import Store, open_store
from budwood.train.run import train
from budwood.train.settings import TrainSettings

Rows = Callable[..., list[dict[str, Any]]]
Train = Callable[[Store, Callable[[Event], None]], Digest]


@pytest.fixture
def run_once(recipe: Recipe, base_ref: BaseRef, settings: TrainSettings, snapshot: Digest) -> Train:
    chosen = replace(settings, dropout=0.1, checkpoint_every=3, epochs=1.5)

    def run(store: Store, report: Callable[[Event], None]) -> Digest:
        return train(recipe, store, snapshot, base_ref, settings=chosen, report=report, threads=1)

    return run


def in_a_child(work: Callable[[], object]) -> int:
    """Run in a forked process and give the signal that ended it, 0 for none. One thread only: forking keeps no others."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def killing_at(number: int) -> Callable[[Event], None]:
    seen = [0]

    def report(event: Event) -> None:
        seen[0] += 1
        if seen[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return report


def copy_of(store: Store, root: Path) -> Path:
    shutil.copytree(store.root, root)
    return root


def test_killed_at_random_events_it_ends_with_the_same_bytes(store: Store, run_once: Train, tmp_path: Path) -> None:
    root = copy_of(store, tmp_path / "killed")
    expected = run_once(store, silent)
    draw = random.Random(11)

    def attempt(number: int) -> None:
        with open_store(root) as opened:
            run_once(opened, killing_at(number))

    for number in [draw.randrange(6, 22) for _ in range(3)]:
        assert in_a_child(partial(attempt, number)) == signal.SIGKILL
    resumed: list[Event] = []
    with open_store(root) as opened:
        assert run_once(opened, resumed.append) == expected
        assert opened.verify().ok
    assert any(event.message.startswith("Going on from step") for event in resumed)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_around_the_rename_of_a_checkpoint(
    store: Store, run_once: Train, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy_of(store, tmp_path / "killed")
    real = os.rename

    def rename(source: Path, target: Path) -> None:
        if target.name == "step-000006":
            if moment == "after":
                real(source, target)
            os.kill(os.getpid(), signal.SIGKILL)
        real(source, target)

    def attempt() -> None:
        monkeypatch.setattr(os, "rename", rename)
        with open_store(root) as opened:
            run_once(opened, silent)

    assert in_a_child(attempt) == signal.SIGKILL
    resumed: list[str] = []
    with open_store(root) as opened:
        digest = run_once(opened, lambda event: resumed.append(event.message))
    assert digest == run_once(store, silent)
    step = 6 if moment == "after" else 3
    assert any(message.startswith(f"Going on from step {step} of") for message in resumed)


def test_the_best_weights_outlive_an_interruption(
    recipe: Recipe,
    base_ref: BaseRef,
    settings: TrainSettings,
    make_snapshot: Callable[..., Digest],
    make_rows: Rows,
    store: Store,
    tmp_path: Path,
) -> None:
    """Few rows and a high rate: the validation loss rises again, so that the best lies before the interruption."""
    chosen = replace(settings, learning_rate=5e-2, schedule="constant", epochs=24.0, validations=12, checkpoint_every=1)
    snapshot = make_snapshot(train=make_rows(8, seed=5))
    root = copy_of(store, tmp_path / "stopped")

    def run(opened: Store, report: Callable[[Event], None]) -> Digest:
        return train(recipe, opened, snapshot, base_ref, settings=chosen, report=report, threads=1)

    expected = run(store, silent)
    body = store.manifest(expected).body
    assert body["best_step"] < body["steps"]
    with open_store(root) as opened:
        with pytest.raises(Stop):
            run(opened, stopping_at(body["steps"]))
        assert run(opened, silent) == expected


def test_a_damaged_checkpoint_is_passed_over(store: Store, run_once: Train, tmp_path: Path) -> None:
    root = copy_of(store, tmp_path / "damaged")

    messages: list[str] = []
    with open_store(root) as opened:
        with pytest.raises(Stop):
            run_once(opened, stopping_at(8))
        newest = max(root.glob("work/*/checkpoints/step-*"))
        data = bytearray((newest / "tensors.safetensors").read_bytes())
        data[-1] ^= 1
        (newest / "tensors.safetensors").write_bytes(data)
        digest = run_once(opened, lambda event: messages.append(event.message))
    assert f"Checkpoint {newest.name} is damaged, looking for an older one" in messages
    assert any(message.startswith("Going on from step 3 of") for message in messages)
    assert digest == run_once(store, silent)


def test_a_training_does_not_go_on_with_an_attention_that_rounds_otherwise(
    run_once: Train, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert in_a_child(lambda: run_once(store, killing_after_the_first_checkpoint)) == signal.SIGKILL
    monkeypatch.setattr("budwood.train.trainable.packed_attention_way", lambda device, dtype, config: "products")
    with pytest.raises(
        TrainingError, match=r"begun by another way of computing \(torch\) than this machine has now \(products\)"
    ):
        run_once(store, silent)


def killing_after_the_first_checkpoint(event: Event) -> None:
    # A checkpoint every three steps: at the fifth the first one is there.
    if event.message.startswith("Training") and event.done == 5:
        os.kill(os.getpid(), signal.SIGKILL)
