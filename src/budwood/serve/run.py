"""Start and stop a server.

`serve` is what the command calls: it returns when the process is told to stop. `Server` is the same without signals, for
whoever has a thread of their own to run beside it.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from budwood.errors import ServeError
from budwood.events import Event, Reporter, silent
from budwood.serve.listen import GRACE_S

if TYPE_CHECKING:
    from budwood.engine.base import BaseRef
    from budwood.recipe import ServeSection
    from budwood.serve.api.actions import AdminActions
    from budwood.serve.api.context import Context
    from budwood.serve.drift import Measure
    from budwood.serve.trials import Guard
    from budwood.store import Store

STOP_S = GRACE_S + 15.0
"""How long a stop waits for each part of the server."""


def serve(
    store: "Store",
    settings: "ServeSection",
    *,
    bases: Sequence["BaseRef"] = (),
    guard: "Guard | None" = None,
    measure_drift: "Measure | None" = None,
    admin: "AdminActions | None" = None,
    report: Reporter = silent,
    ready: Callable[["Server"], None] | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Serve what the aliases of a store point to, until SIGTERM, SIGINT or `stop`.

    Args:
        store: the catalog that is followed and the objects that are loaded.
        settings: the recipe's [serve].
        bases: places where a base may be found besides the one that a release names.
        guard: takes back what is tried and breaks its policy; None: this server only counts.
        measure_drift: compares production with held-out sets, every [serve] drift_hours; None: this server does not.
        admin: what the admin API can do besides looking at the catalog.
        report: told of loading, flips and failures, from several threads.
        ready: called once with the server when the aliases have been followed for the first time.
        stop: set it to stop the server from another thread.

    Raises:
        ServeError: the address is not this machine's own loopback and there is no token, or the port is taken.
    """
    stop = stop or threading.Event()
    with (
        Server(store, settings, bases=bases, guard=guard, measure_drift=measure_drift, admin=admin, report=report) as server,
        _stopped_by_signals(stop),
    ):
        waiting = server.synced
        while not (waiting.wait(0.1) or stop.is_set()):
            server.check_alive()
        if ready is not None and not stop.is_set():
            ready(server)
        while not stop.wait(1.0):
            server.check_alive()
        report(Event("serve", "Stopping: no new connections, requests in flight finish"))


class Server:
    """A running server; use as a context manager. Ready when `synced` is set."""

    def __init__(
        self,
        store: "Store",
        settings: "ServeSection",
        *,
        bases: Sequence["BaseRef"] = (),
        guard: "Guard | None" = None,
        measure_drift: "Measure | None" = None,
        admin: "AdminActions | None" = None,
        report: Reporter = silent,
    ) -> None:
        from budwood.serve.access.book import Book
        from budwood.serve.api.app import make_app
        from budwood.serve.listen import check_open, http_server, listen
        from budwood.serve.parts import make_parts

        self._store = store
        self._report = report
        book = Book(store.access.rows, settings.auth, report=report)
        check_open(settings, book)
        self._socket = listen(settings)
        host, port = self._socket.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self.id = f"{socket.gethostname()[:64]}:{port}:{os.getpid()}"
        self._stopping = threading.Event()
        self._parts = make_parts(
            store, settings, book, server_id=self.id, bases=bases, guard=guard, measure_drift=measure_drift, report=report
        )
        self._http = http_server(make_app(self._context(settings, admin)), host)
        self._threads = [threading.Thread(target=self._run_http, name="http", daemon=True)]
        for name, run in self._parts.work(settings.poll_s):
            self._threads.append(threading.Thread(target=run, args=(self._stopping,), name=name, daemon=True))

    def _context(self, settings: "ServeSection", admin: "AdminActions | None") -> "Context":
        """What the routes need of this server."""
        from budwood.serve.access.limits import Limits
        from budwood.serve.api.context import Context
        from budwood.serve.api.entrance import Entrance, own_hosts
        from budwood.serve.api.flight import Admission
        from budwood.serve.listen import is_loopback

        parts = self._parts
        return Context(
            directory=parts.directory,
            settings=settings,
            metrics=parts.metrics,
            entrance=Entrance(parts.book, own_hosts(settings.hosts), literals=not is_loopback(settings.host)),
            limits=Limits(settings.requests_per_minute, settings.tokens_per_minute, time.monotonic),
            admission=Admission(settings.max_batch + settings.max_queue, settings.max_streams),
            state=self.state,
            synced=self.synced.is_set,
            healthy=lambda: parts.backend.healthy,
            sync=self._sync,
            admin=admin,
            audit=_Record(self._store, self.id),
            log=_log_line if settings.log_requests else None,
            finished=parts.aftermath.put,
            demand=parts.demand,
        )

    @property
    def synced(self) -> threading.Event:
        """Set when the aliases have been followed for the first time."""
        return self._parts.follower.synced

    def start(self) -> None:
        # Before anybody can be told that we are here: a promotion that comes right after waits for this server.
        self._parts.presence.beat()
        for thread in self._threads:
            thread.start()
        self._report(Event("serve", f"Listening on {self.url}; {self._door()}"))

    def stop(self) -> None:
        """Take no new connection, let requests in flight finish (30 s at most), and take this server off the records."""
        self._stopping.set()
        self._http.should_exit = True
        self._parts.wake()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(STOP_S)
        self._socket.close()
        if any(thread.is_alive() for thread in self._threads):
            # A load cannot be interrupted, and ends with the process.
            self._report(Event("serve", "A release is still being loaded; it is left behind"))
        else:
            self._parts.backend.close()
        self._store.forget_server(self.id)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def check_alive(self) -> None:
        """Raise if a part of the server has ended by itself.

        Raises:
            ServeError: the HTTP side or the follower has stopped. (Engines: see `/health`.)
        """
        ended = [thread.name for thread in self._threads if not thread.is_alive()]
        if ended:
            raise ServeError(f"A part of the server has stopped: {', '.join(ended)}.", mend="See the traceback above it.")

    def state(self) -> dict[str, Any]:
        """What `/ready` shows: every alias with the release that answers, and what could not be loaded."""
        aliases = {
            f"{name}@{alias}": {"release": live.digest, "version": live.version}
            for (name, alias), live in sorted(self._parts.directory.aliases().items())
        }
        problems = {f"{name}@{alias}": text for (name, alias), text in sorted(self._parts.directory.problems().items())}
        trials = [
            {"alias": f"{one.name}@{one.alias}", "kind": one.kind, "release": one.live.digest, "share": one.share}
            for one in self._parts.directory.routes()
        ]
        ready = self.synced.is_set() and bool(aliases) and not self._stopping.is_set()
        return {"ready": ready, "server": self.id, "aliases": aliases, "trials": trials, "problems": problems}

    def _door(self) -> str:
        """Say who may come in."""
        if not self._parts.book.required:
            return "no token is asked for: whoever can reach it from this machine may ask"
        live = self._parts.book.live
        return f"every request needs a token ({live} count{'s' if live == 1 else ''} now)"

    def _sync(self) -> None:
        self._parts.book.refresh()
        self._parts.follower.sync(retry=True)

    def _run_http(self) -> None:
        self._http.run(sockets=[self._socket])


class _Record:
    """The record of admin calls, as `budwood.serve.api.actions.Audit` has it."""

    def __init__(self, store: "Store", server_id: str) -> None:
        self._store = store
        self._server_id = server_id

    def begin(self, token: str, request_id: str, action: str, detail: str) -> int:
        return self._store.access.begin_call(self._server_id, token, request_id, action, detail)

    def end(self, number: int, status: int) -> None:
        self._store.access.end_call(number, status)


def _log_line(figures: Mapping[str, Any]) -> None:
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    print(json.dumps({"at": at, **figures}), file=sys.stderr, flush=True)


@contextlib.contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """SIGTERM and SIGINT set `stop`; a second SIGINT is a KeyboardInterrupt again. Only the main thread can do this."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
