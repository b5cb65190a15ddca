"""Sending a training's figures on while it runs: TensorBoard, Weights & Biases, MLflow, trackio, where they are installed.

A tracker gets the recipe's name, the settings, and figures by step; never a row, a prompt or a path of the data. One that fails
while the training runs is told of once and asked no more: the training's own record is whole without it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from budwood.errors import TrainingError
from budwood.events import Event, Reporter
from budwood.train.curve import Point

PROJECT = "budwood"


class Tracker(Protocol):
    """Takes figures by step."""

    def log(self, step: int, figures: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Tracked:
    """What a tracker is told of a training, and where it may keep files of its own."""

    name: str
    settings: Mapping[str, Any]
    folder: Path


def open_trackers(names: Sequence[str], tracked: Tracked, report: Reporter) -> "Trackers":
    """Open trackers by name.

    Raises:
        TrainingError: an unknown name, one that is not installed, or one that cannot be opened.
    """
    unknown = [name for name in names if name not in OPENERS]
    if unknown:
        raise TrainingError(f"There is no tracker {unknown[0]!r}.", where="--track", mend=f"Known: {', '.join(OPENERS)}.")
    opened: dict[str, Tracker] = {}
    for name in dict.fromkeys(names):
        module, needs, make = OPENERS[name]
        try:
            library = import_module(module)
        except ImportError as error:
            raise TrainingError(
                f"The tracker {name} is not installed: {error}.", where="--track", mend=f"pip install {needs}"
            ) from error
        try:
            opened[name] = make(library, tracked)
        except Exception as error:  # strangers' code: it may ask for a login or a server
            raise TrainingError(
                f"The tracker {name} cannot be opened: {error}.", where="--track", mend="Log in to it, or leave it out."
            ) from error
    return Trackers(opened, report)


class Trackers:
    """All trackers of a training."""

    def __init__(self, opened: Mapping[str, Tracker], report: Reporter) -> None:
        self._opened = dict(opened)
        self._report = report

    def log(self, point: Point) -> None:
        """Send a point of the curves on."""
        values = {name: value for name, value in point.as_dict().items() if name != "step" and value is not None}
        for name in list(self._opened):
            self._ask(name, lambda tracker: tracker.log(point.step, values))

    def close(self) -> None:
        for name in list(self._opened):
            self._ask(name, lambda tracker: tracker.close())

    def _ask(self, name: str, what: Callable[[Tracker], None]) -> None:
        try:
            what(self._opened[name])
        except Exception as error:  # a server that is down must not end a training
            del self._opened[name]
            self._report(Event("train", f"The tracker {name} failed ({error}); it gets no more figures of this training"))


class _TensorBoard:
    def __init__(self, library: Any, tracked: Tracked) -> None:
        self._writer = library.SummaryWriter(log_dir=str(tracked.folder / "tensorboard" / tracked.name))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(f"train/{name}", value, step)

    def close(self) -> None:
        self._writer.close()


class _Run:
    """Weights & Biases and trackio, which speaks as it does."""

    def __init__(self, library: Any, tracked: Tracked) -> None:
        self._library = library
        library.init(project=PROJECT, name=tracked.name, config=dict(tracked.settings))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._library.log({f"train/{name}": value for name, value in figures.items()}, step=step)

    def close(self) -> None:
        self._library.finish()


class _MlFlow:
    def __init__(self, library: Any, tracked: Tracked) -> None:
        self._library = library
        library.set_experiment(PROJECT)
        library.start_run(run_name=tracked.name)
        library.log_params(dict(tracked.settings))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._library.log_metrics({f"train/{name}": value for name, value in figures.items()}, step=step)

    def close(self) -> None:
        self._library.end_run()


OPENERS: Mapping[str, tuple[str, str, Callable[[Any, Tracked], Tracker]]] = {
    "tensorboard": ("torch.utils.tensorboard", "tensorboard", _TensorBoard),
    "wandb": ("wandb", "wandb", _Run),
    "mlflow": ("mlflow", "mlflow", _MlFlow),
    "trackio": ("trackio", "trackio", _Run),
}
"""Name → module, what installs it, and how it is opened."""
