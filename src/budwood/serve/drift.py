"""Look now and then whether production has left behind what the live releases were judged on, and show what is known of it."""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from budwood.errors import BudwoodError
from budwood.events import Event, Reporter
from budwood.serve.directory import Directory
from budwood.serve.metrics import Metrics

if TYPE_CHECKING:
    from budwood.store import Store

LOOK_S = 10.0
Measure = Callable[[str, str], str]
"""(name, alias) → why it could not be measured, "" when it was. What it finds it puts into the catalog. It may take long."""


class DriftWatch:
    """Has a thread of its own.

    Args:
        store: where findings are.
        directory: what is live.
        metrics: shows stale verdicts.
        measure: makes a finding; None: only shows those of others.
        hours: between two measurements; 0: never.
        report: told when it could not be measured.
        clock: seconds.
    """

    def __init__(
        self,
        store: "Store",
        directory: Directory,
        metrics: Metrics,
        *,
        measure: Measure | None,
        hours: float,
        report: Reporter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._directory = directory
        self._metrics = metrics
        self._measure = measure if hours else None
        self._every_s = hours * 3600
        self._report = report
        self._clock = clock
        # Not at once: a server that has just started has seen nothing.
        self._due_at = clock() + self._every_s

    def run(self, stop: threading.Event) -> None:
        """Look until `stop` is set."""
        while not stop.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """Measure if it is time, and show what is known."""
        if self._measure is not None and self._clock() >= self._due_at:
            self._due_at = self._clock() + self._every_s
            for name, alias in self._directory.aliases():
                trouble = self._measure(name, alias)
                if trouble:
                    self._report(Event("serve", f"Drift of {name}@{alias} could not be measured: {trouble}"))
        try:
            found = self._store.drifts.rows()
        except BudwoodError as error:
            self._report(Event("serve", f"What is known of drift cannot be read: {error.what}"))
            return
        self._metrics.stale.clear()
        for live in self._directory.aliases().values():
            row = found.get(live.digest)
            if row is not None:
                self._metrics.stale.labels(live.concrete).set(int(row.stale))
