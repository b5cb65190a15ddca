"""The curves of a training that is under way: a line a step in the work folder, for whoever wants to follow it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from budwood.train.curve import Point
from budwood.train.disk import writing

FILE = "curve.jsonl"


class LiveCurve:
    """Appends points as they are made; what a kill left beyond the last checkpoint is dropped when training goes on."""

    def __init__(self, work: Path, about: Mapping[str, str]) -> None:
        self._path = work / FILE
        self._about = dict(about)

    def begin(self, points: Sequence[Point]) -> None:
        """Start with the points of the checkpoint that is gone on from."""
        with writing("The curve of the training", self._path.parent, mend="Free some space, then run the same command again."):
            self._path.write_text("".join([json.dumps(self._about) + "\n", *map(_line, points)]))

    def add(self, point: Point) -> None:
        with (
            writing("The curve of the training", self._path.parent, mend="Free some space, then run the same command again."),
            self._path.open("a") as file,
        ):
            file.write(_line(point))


@dataclass(frozen=True)
class UnderWay:
    """A training that is not done: under way, or interrupted."""

    recipe: str
    method: str
    points: tuple[Point, ...]
    work: Path

    def line(self) -> str:
        """Say how far it is."""
        steps = [point for point in self.points if point.loss is not None]
        loss = f", loss {steps[-1].loss:.4g}" if steps else ""
        return f"{self.recipe}: {self.method}, {steps[-1].step if steps else 0:,} steps made{loss} (work {self.work.name[:12]})"


def under_way(work: Path) -> list[UnderWay]:
    """Find the trainings in a store's work folder that have begun and are not done."""
    found = [read_curve(path.parent) for path in sorted(work.glob(f"*/{FILE}"))]
    return [one for one in found if one is not None]


def read_curve(work: Path) -> UnderWay | None:
    """Read what is there; a last line that is only half written is left out. None before the first line."""
    path = work / FILE
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")] if path.is_file() else []
    if not lines:
        return None
    about = json.loads(lines[0])
    return UnderWay(about["recipe"], about["method"], tuple(Point(**json.loads(line)) for line in lines[1:]), work)


def _line(point: Point) -> str:
    return json.dumps(point.as_dict()) + "\n"
