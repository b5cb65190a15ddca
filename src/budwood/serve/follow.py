"""Follow the catalog: what the aliases say is what this server does, as soon as it has proved that it can.

The alias in the catalog is the desired state; what is reported back is the observed one. A release that cannot be loaded or
fails its probes changes nothing here: what was live stays live, and the reason is on record. It is tried again after a
while, or when somebody asks.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from budwood.errors import BudwoodError
from budwood.events import Event, Reporter
from budwood.identity import Digest, short
from budwood.serve.directory import Directory, Live
from budwood.serve.loader import Loader
from budwood.serve.metrics import Metrics

if TYPE_CHECKING:
    from budwood.store import AliasRow, ReleaseRow, Store

RETRY_S = 30.0
Alias = tuple[str, str]


@dataclass(frozen=True)
class _Failure:
    """A release that did not come up: not tried again before `retry_at`."""

    digest: Digest
    retry_at: float


class Follower:
    """Keeps a directory as the catalog wants it.

    Args:
        store: desired state in, observed state out.
        loader: brings releases up and down.
        directory: what requests see.
        metrics: counts flips and failures.
        server_id: under which this server reports.
        report: told of every change.
        clock: seconds, for retries.
    """

    def __init__(
        self,
        store: "Store",
        loader: Loader,
        directory: Directory,
        metrics: Metrics,
        *,
        server_id: str,
        report: Reporter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._loader = loader
        self._directory = directory
        self._metrics = metrics
        self._server_id = server_id
        self._report = report
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: dict[Alias, _Failure] = {}
        self._previous: dict[Alias, Digest] = {}
        self._trouble = ""
        self.synced = threading.Event()
        """Set after the first look at the catalog that went through."""

    def run(self, stop: threading.Event, poll_s: float) -> None:
        """Look at the catalog every `poll_s` seconds until `stop` is set."""
        while not stop.is_set():
            self.sync()
            stop.wait(poll_s)

    def sync(self, *, retry: bool = False) -> None:
        """Look at the catalog once and do what it says; `retry`: also try again what has failed."""
        with self._lock:
            if retry:
                self._failures.clear()
            try:
                rows = {(row.name, row.alias): row for row in self._store.aliases()}
                for alias, row in rows.items():
                    self._follow(alias, row)
                for alias in self._directory.aliases().keys() - rows.keys():
                    self._directory.remove_alias(*alias)
                self._warm(rows)
                self._trouble = ""
                self.synced.set()
            except BudwoodError as error:
                # A catalog that cannot be read now is no reason to stop serving what is loaded.
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    self._report(Event("serve", f"The catalog cannot be read; serving what is loaded. {error}"))

    def _follow(self, alias: Alias, row: "AliasRow") -> None:
        live = self._directory.aliases().get(alias)
        failure = self._failures.get(alias)
        if live is not None and live.digest == row.digest:
            if failure is not None:
                # The alias went back to what never stopped being live here.
                del self._failures[alias]
                self._flip(alias, live)
            return
        if failure is not None and failure.digest == row.digest and self._clock() < failure.retry_at:
            return
        try:
            fresh = self._bring_up(self._release(row))
        except (BudwoodError, OSError, RuntimeError, MemoryError) as error:
            self._fail(alias, row, live, error)
            return
        if live is not None:
            self._previous[alias] = live.digest
        self._failures.pop(alias, None)
        self._flip(alias, fresh)

    def _bring_up(self, row: "ReleaseRow") -> Live:
        live = self._directory.loaded().get(row.digest)
        if live is None:
            live = self._loader.load(row)
            self._directory.put(live)
        return live

    def _release(self, row: "AliasRow") -> "ReleaseRow":
        return self._store.find_release(f"{row.name}@{row.version}")

    def _flip(self, alias: Alias, live: Live) -> None:
        self._directory.flip(*alias, live)
        self._metrics.flips.inc()
        self._store.observe(self._server_id, *alias, live.digest, True, "probes passed")
        self._report(Event("serve", f"{'@'.join(alias)} is now {live.concrete}"))

    def _fail(self, alias: Alias, row: "AliasRow", live: Live | None, error: Exception) -> None:
        keeps = f"still serving {live.concrete}" if live is not None else "nothing is served under this alias"
        reason = error.what if isinstance(error, BudwoodError) else f"{type(error).__name__}: {error}"
        detail = f"{reason} ({keeps})"
        self._failures[alias] = _Failure(row.digest, self._clock() + RETRY_S)
        self._directory.note_problem(*alias, f"release {row.version}-{short(row.digest)} did not come up: {detail}")
        self._metrics.load_failures.inc()
        self._store.observe(self._server_id, *alias, row.digest, False, detail)
        self._report(Event("serve", f"{'@'.join(alias)} stays as it is: {error}"))

    def _warm(self, rows: dict[Alias, "AliasRow"]) -> None:
        """Keep each alias's previous release loaded, so that going back is a pointer flip; unload what nobody needs."""
        keep: set[Digest] = set()
        for alias in rows:
            if alias not in self._previous and alias in self._directory.aliases():
                self._previous[alias] = self._find_previous(alias)
            keep.add(self._previous.get(alias, Digest("")))
        for digest in keep - {Digest("")} - self._directory.loaded().keys():
            try:
                self._bring_up(self._store.find_release(digest))
            except (BudwoodError, OSError, RuntimeError, MemoryError) as error:
                # Rolling back to it would fail as well, and would then be refused and said so: nothing to repair here.
                self._previous = {alias: Digest("") if kept == digest else kept for alias, kept in self._previous.items()}
                self._report(Event("serve", f"Previous release {short(digest)} cannot be kept warm: {error}"))
        for live in self._directory.take_idle(keep):
            self._loader.unload(live)
            self._report(Event("serve", f"{live.concrete} is unloaded"))
        self._metrics.loaded.set(len(self._directory.loaded()))

    def _find_previous(self, alias: Alias) -> Digest:
        """Where the alias pointed before, by the history: for a server that has just started."""
        name, word = alias
        moves = [
            event for event in self._store.history(name) if event.alias == word and event.kind in ("promoted", "rolled_back")
        ]
        return Digest(moves[-1].from_ or "") if moves else Digest("")
