"""Several processes that do one kind of work; with one, the same work is done here.

    with Crew(Work, (order,), processes=2) as crew:
        for batch in crew.each("piece", ((piece,) for piece in pieces)): ...       # in the order of the pieces

Each process makes its own worker, `Work(order, name)`, and calls the method that is named. Processes are started afresh, so
threads here cannot harm them, and end when this one does, however it ends. Tasks and results are sent as `multiprocessing`
sends them.
"""

import gc
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from socket import socketpair
from types import TracebackType
from typing import Any, Protocol, Self

from budwood import errors
from budwood.errors import BudwoodError, DataError

AHEAD = 4
"""Tasks a process that may be begun before the oldest of them is done: what bounds the results that wait their turn."""
END_TIMEOUT_S = 10
GARBAGE_THRESHOLD = 200_000
"""Rows make no cycles, and looking for them would take a tenth of the time."""


class Worker(Protocol):
    def close(self) -> None: ...


Maker = Callable[..., Worker]
Task = tuple[Any, ...]


class Crew:
    """The processes; `make(*given, name)` makes a worker, and has to be importable where there are several."""

    def __init__(self, make: Maker, given: Task, processes: int) -> None:
        self._here = make(*given, "0") if processes == 1 else None
        self._hands: list[_Hand] = []
        try:
            for number in range(processes if processes > 1 else 0):
                self._hands.append(_Hand((make, given, str(number))))
        except BaseException:
            self.close()
            raise

    def each(self, method: str, tasks: Iterable[Task]) -> Iterator[Any]:
        """Do tasks; their results come in the order of the tasks, and no task is asked for long before it can begin.

        Raises:
            BudwoodError: what the first task that failed ran into.
            OSError: likewise, of files.
            DataError: a process was ended by the system.
        """
        if self._here is not None:
            for task in tasks:
                yield getattr(self._here, method)(*task)
            return
        yield from _dealt(self._hands, method, iter(tasks))

    def close(self) -> None:
        if self._here is not None:
            self._here.close()
        for hand in self._hands:
            hand.end()
        self._hands.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Hand:
    """One process, seen from here."""

    def __init__(self, given: Task) -> None:
        ours, theirs = socketpair()
        command = [sys.executable, "-P", "-c", f"from budwood.prepare.crew import serve; serve({theirs.fileno()})"]
        alone = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
        paths = os.pathsep.join(filter(None, sys.path))
        settings = os.environ | alone | {"TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": paths}
        with theirs:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=settings)
        self.line = Connection(ours.detach())
        self.task: int | None = None
        try:
            self._send(given)
        except BaseException:
            # What cannot be sent leaves a process that nobody else knows of.
            self.task = 0
            self.end()
            raise

    def begin(self, number: int, method: str, task: Task) -> None:
        self.task = number
        self._send((method, task))

    def result(self) -> Any:
        try:
            return self.line.recv()
        except (EOFError, OSError):
            raise self._died() from None

    def end(self) -> None:
        self.line.close()
        try:
            self._process.wait(END_TIMEOUT_S if self.task is None else 0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self, message: object) -> None:
        try:
            self.line.send(message)
        except OSError:
            raise self._died() from None

    def _died(self) -> DataError:
        code = self._process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return DataError(
            f"A process that prepared rows ended before its work was done ({how}).",
            mend="Nothing was stored. Processes are ended when memory runs out: prepare with fewer of them (--processes).",
        )


def _dealt(hands: list[_Hand], method: str, tasks: Iterator[Task]) -> Iterator[Any]:
    done: dict[int, Any] = {}
    begun = given = 0
    ready: Task | None = next(tasks, None)
    while ready is not None or given < begun:
        idle = next((hand for hand in hands if hand.task is None), None)
        if ready is not None and idle is not None and begun - given < AHEAD * len(hands):
            idle.begin(begun, method, ready)
            begun, ready = begun + 1, next(tasks, None)
            continue
        busy = {hand.line: hand for hand in hands if hand.task is not None}
        for line in wait(list(busy)):
            hand = busy[line]  # type: ignore[index]  # wait gives back what it was given
            assert hand.task is not None
            done[hand.task], hand.task = hand.result(), None
        while given in done:
            yield _opened(done.pop(given))
            given += 1


def _opened(outcome: tuple[str, Any]) -> Any:
    how, held = outcome
    if how == "done":
        return held
    if how == "fault":
        kind: type[BudwoodError] = getattr(errors, held["kind"], DataError)
        raise kind(held["what"], where=held["where"], mend=held["mend"])
    if how == "disk":
        raise OSError(*held)
    if how == "memory":
        raise MemoryError(held)
    raise RuntimeError(f"a process that prepared rows failed:\n{held}")


def serve(handle: int) -> None:
    """Be one of the processes; `handle` is the socket over which tasks come."""
    # A break at the keyboard is for the process that began this one; it ends this one by closing the line.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = Connection(handle)
    with suppress(EOFError, OSError):
        make, given, name = line.recv()
        outcome = _tried(lambda: make(*given, name))
        worker = outcome[1] if outcome[0] == "done" else None
        gc.freeze()
        gc.set_threshold(GARBAGE_THRESHOLD)
        while True:
            method, task = line.recv()
            line.send(outcome if worker is None else _tried(lambda: getattr(worker, method)(*task)))  # noqa: B023


def _tried(do: Callable[[], Any]) -> tuple[str, Any]:
    try:
        return "done", do()
    except BudwoodError as fault:
        return "fault", {"kind": type(fault).__name__, "what": fault.what, "where": fault.where, "mend": fault.mend}
    except OSError as error:
        return "disk", (error.errno, error.strerror)
    except MemoryError as error:
        return "memory", str(error)
    except Exception:  # whatever it is, the process that asked has to show it
        return "failed", traceback.format_exc()
