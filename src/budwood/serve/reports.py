"""What this server serves, written into the catalog on a thread of its own.

A write waits for other writers and for the disk; a flip of an alias must wait for neither, so nothing is written where flips
are made.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from budwood.errors import BudwoodError
from budwood.events import Event, Reporter

if TYPE_CHECKING:
    from budwood.store import Observation, Store
    from budwood.store.warmups import Warmup

SAY_AGAIN_S = 60.0
"""What this server serves is reported again after so long, should somebody have taken its report away."""
LOOK_S = 1.0
"""So often it is looked whether something has to be said again, or could not be written before."""
Alias = tuple[str, str]


class Reports:
    """The newest word on each alias, and which of it has been written.

    Args:
        store: the catalog.
        server_id: under which this server reports.
        report: told once when the catalog cannot be written, and then again only after it could.
        clock: seconds.
    """

    def __init__(
        self, store: "Store", *, server_id: str, report: Reporter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._server_id = server_id
        self._report = report
        self._clock = clock
        self._writing = threading.Lock()
        self._fresh = threading.Event()
        self._now: Mapping[Alias, Observation] = {}
        self._said: dict[Alias, tuple[Observation, float]] = {}
        self._ready: Mapping[Warmup, str] = {}
        self._said_ready: dict[Warmup, str] = {}
        self._trouble = ""

    def put(self, found: "Mapping[Alias, Observation]") -> None:
        """Say how all aliases stand, in the place of what was said before; returns at once."""
        if found != self._now:
            self._now = found
            self._fresh.set()

    def put_ready(self, found: "Mapping[Warmup, str]") -> None:
        """Say of releases that somebody asked to have ready why they did not come up; "": they are. Returns at once."""
        if found != self._ready:
            self._ready = found
            self._fresh.set()

    def run(self, stop: threading.Event) -> None:
        """Write until `stop` is set."""
        while not stop.is_set():
            self.write()
            self._fresh.wait(LOOK_S)

    def wake(self) -> None:
        """Let `run` look whether it is to stop."""
        self._fresh.set()

    def write(self) -> None:
        """Write what is new, and what was written long ago, in one transaction; what could not be written stays due."""
        with self._writing:
            self._fresh.clear()
            now, at = self._now, self._clock()
            self._said = {alias: said for alias, said in self._said.items() if alias in now}
            due = [one for alias, one in now.items() if self._is_due(alias, one, at)]
            try:
                if due:
                    self._store.observe_all(self._server_id, due)
                    self._said |= {(one.name, one.alias): (one, at) for one in due}
                self._write_ready()
                self._trouble = ""
            except BudwoodError as error:
                # A catalog that cannot be written now is no reason to stop serving.
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    self._report(Event("serve", f"The catalog cannot be written; serving goes on. {error}"))

    def _write_ready(self) -> None:
        ready = self._ready
        self._said_ready = {one: why for one, why in self._said_ready.items() if one in ready}
        for one, why in ready.items():
            if self._said_ready.get(one) != why:
                self._store.warmups.report(self._server_id, one.digest, not why, why or "ready")
                self._said_ready[one] = why

    def _is_due(self, alias: Alias, one: "Observation", at: float) -> bool:
        said = self._said.get(alias)
        return said is None or said[0] != one or at - said[1] >= SAY_AGAIN_S
