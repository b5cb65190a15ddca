"""Figures sent on: to fakes in the place of the libraries, and to TensorBoard where it is installed."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from budwood.engine.base import BaseRef
from budwood.errors import TrainingError
from budwood.events import Event, silent
from budwood.identity import Digest
from budwood.recipe import Recipe
from budwood.store import Store
from budwood.train.curve import Point
from budwood.train.live import LiveCurve, read_curve, under_way
from budwood.train.run import train
from budwood.train.settings import TrainSettings
from budwood.train.trackers import Tracked, open_trackers

POINTS = [Point(0, None, 1.5, 0.0, None, 0), Point(1, 2.25, None, 1e-3, 0.5, 40)]


class Fake(ModuleType):
    """Stands for wandb, trackio and mlflow at once, and notes what it is asked."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *given, **named: self.calls.append((name, given, named))


@pytest.fixture(params=["wandb", "trackio", "mlflow"])
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake(request.param)
    monkeypatch.setitem(sys.modules, request.param, made)
    return made


def tracked(folder: Path) -> Tracked:
    return Tracked("support", {"rank": 16}, folder)


def test_every_point_is_sent_with_its_step(fake: Fake, tmp_path: Path) -> None:
    trackers = open_trackers([fake.__name__], tracked(tmp_path), silent)
    for point in POINTS:
        trackers.log(point)
    trackers.close()
    sent = [(given[0], named["step"]) for name, given, named in fake.calls if name in ("log", "log_metrics")]
    assert sent == [
        ({"train/validation_loss": 1.5, "train/learning_rate": 0.0, "train/tokens": 0}, 0),
        ({"train/loss": 2.25, "train/learning_rate": 1e-3, "train/gradient_norm": 0.5, "train/tokens": 40}, 1),
    ]
    assert fake.calls[0][0] in ("init", "set_experiment")
    assert fake.calls[-1][0] in ("finish", "end_run")
    assert "rank" in str(fake.calls)


def test_one_that_fails_is_told_of_once_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    good, bad = Fake("wandb"), Fake("trackio")
    monkeypatch.setitem(sys.modules, "wandb", good)
    monkeypatch.setitem(sys.modules, "trackio", bad)
    events: list[Event] = []
    trackers = open_trackers(["trackio", "wandb"], tracked(tmp_path), events.append)

    def down(*_: object, **__: object) -> None:
        raise ConnectionError("the server is down")

    bad.log = down  # type: ignore[attr-defined]  # a fake
    for point in POINTS:
        trackers.log(point)
    assert [event.message for event in events] == [
        "The tracker trackio failed (the server is down); it gets no more figures of this training"
    ]
    assert [name for name, _, _ in good.calls].count("log") == 2


def test_unknown_and_absent_ones_are_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"There is no tracker 'wandbb'"):
        open_trackers(["wandbb"], tracked(tmp_path), silent)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(TrainingError, match="wandb is not installed") as caught:
        open_trackers(["wandb"], tracked(tmp_path), silent)
    assert caught.value.mend == "pip install wandb"


def test_one_that_cannot_be_opened_ends_before_the_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = Fake("wandb")

    def closed(*_: object, **__: object) -> None:
        raise RuntimeError("log in first")

    fake.init = closed  # type: ignore[attr-defined]  # a fake
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with pytest.raises(TrainingError, match="cannot be opened: log in first"):
        open_trackers(["wandb"], tracked(tmp_path), silent)


def test_tensorboard_for_real(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trackers = open_trackers(["tensorboard"], tracked(tmp_path), silent)
    for point in POINTS:
        trackers.log(point)
    trackers.close()
    read: Any = EventAccumulator(str(tmp_path / "tensorboard" / "support"))
    read.Reload()
    assert [(one.step, one.value) for one in read.Scalars("train/loss")] == [(1, 2.25)]


def test_a_training_sends_its_curve_and_nothing_of_its_rows(
    recipe: Recipe,
    store: Store,
    snapshot: Digest,
    base_ref: BaseRef,
    settings: TrainSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = Fake("wandb")
    monkeypatch.setitem(sys.modules, "wandb", fake)
    seen: list[int] = []

    def look(event: Event) -> None:
        # While it runs, the curve can be read by anybody.
        seen.extend(len(one.points) for one in under_way(store.root / "work"))

    train(recipe, store, snapshot, base_ref, settings=settings, trackers=["wandb"], report=look)
    steps = [named["step"] for name, _, named in fake.calls if name == "log"]
    assert steps == list(range(len(steps)))
    assert max(seen) >= len(steps) - 2
    assert under_way(store.root / "work") == []
    assert "plus" not in str(fake.calls)
    with_none = train(recipe, store, snapshot, base_ref, settings=replace(settings, checkpoint_every=5), report=silent)
    assert store.done is not None
    assert with_none  # who watches does not change what is trained: it was found, not made again
    assert [name for name, _, _ in fake.calls].count("init") == 1


def test_a_line_that_is_half_written_is_left_out(tmp_path: Path) -> None:
    curve = LiveCurve(tmp_path, {"recipe": "support", "method": "lora"})
    assert read_curve(tmp_path) is None
    curve.begin(POINTS[:1])
    curve.add(POINTS[1])
    with (tmp_path / "curve.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    found = read_curve(tmp_path)
    assert found is not None
    assert found.points == tuple(POINTS)
    assert found.line() == f"support: lora, 1 steps made, loss 2.25 (work {tmp_path.name[:12]})"
