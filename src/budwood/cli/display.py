"""Draws events: a bar on a terminal, a plain line elsewhere; nothing is silent for long.

On a terminal each stage has one line with bar, count, figures and time left. Elsewhere (a pipe, CI) a line is printed when a
stage says something, and while a bar moves at most every `quiet_s` seconds, so that a log stays readable.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from budwood.events import Event, Reporter

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@contextmanager
def display(*, quiet_s: float = 2.0, clock: Callable[[], float] = time.monotonic) -> Iterator[Reporter]:
    """Give a reporter that draws on stderr; the bar is taken down when the block ends."""
    if sys.stderr.isatty():
        with _rich_progress() as progress:
            yield _Bars(progress)
    else:
        yield _Lines(quiet_s, clock)


def figures(event: Event) -> str:
    """Write an event's figures the way a person reads them: `loss 1.31 · 2,800 tokens/s`."""
    parts = []
    for name, value in event.fields.items():
        shown = value if isinstance(value, str) else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
        parts.append(f"{shown} {name}" if "/" in name else f"{name} {shown}")
    return " · ".join(parts)


def _rich_progress() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description:<9}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[figures]}"),
        console=Console(stderr=True),
        transient=False,
    )


class _Bars:
    """One rich bar for each stretch of counted work; plain messages scroll above it."""

    def __init__(self, progress: "Progress") -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._title = ""

    def __call__(self, event: Event) -> None:
        if event.done is None:
            self._finish()
            self._progress.console.print(f"{event.stage:<9} {event.message}", highlight=False, markup=False)
            return
        title = f"{event.stage}:{event.message}"
        if self._task is None or title != self._title:
            self._finish()
            self._title = title
            self._task = self._progress.add_task(event.stage, total=event.total, unit=event.unit, figures="")
        self._progress.update(self._task, completed=event.done, total=event.total, figures=figures(event))

    def _finish(self) -> None:
        if self._task is not None:
            self._progress.stop_task(self._task)
            self._task = None


class _Lines:
    """Plain lines for logs."""

    def __init__(self, quiet_s: float, clock: Callable[[], float]) -> None:
        self._quiet_s = quiet_s
        self._clock = clock
        self._last = float("-inf")

    def __call__(self, event: Event) -> None:
        if event.done is None:
            self._print(f"{event.stage:<9} {event.message}")
            return
        now = self._clock()
        if now - self._last < self._quiet_s and event.done != event.total:
            return
        self._last = now
        total = f"/{event.total:,}" if event.total is not None else ""
        extra = f" · {figures(event)}" if event.fields else ""
        self._print(f"{event.stage:<9} {event.message} {event.done:,}{total} {event.unit}{extra}")

    def _print(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
