"""Say again and again that this server is there, on a thread of its own: loading a release takes longer than silence may."""

import threading
from typing import TYPE_CHECKING

from budwood.errors import BudwoodError
from budwood.events import Event, Reporter

if TYPE_CHECKING:
    from budwood.store import Store

BEAT_S = 2.0


class Presence:
    """This server's entry among those that follow the catalog.

    Args:
        store: the catalog.
        server_id: under which this server reports.
        report: told once when the catalog cannot be written, and then again only after it could.
    """

    def __init__(self, store: "Store", *, server_id: str, report: Reporter) -> None:
        self._store = store
        self._server_id = server_id
        self._report = report
        self._silent = False

    def run(self, stop: threading.Event) -> None:
        """Beat until `stop` is set."""
        while not stop.is_set():
            self.beat()
            stop.wait(BEAT_S)

    def beat(self) -> None:
        try:
            self._store.server_beat(self._server_id)
            self._silent = False
        except BudwoodError as error:
            if not self._silent:
                self._report(Event("serve", f"This server cannot report itself, so promotions do not wait for it. {error}"))
            self._silent = True
