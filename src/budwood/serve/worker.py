"""The thread that owns one generator.

Everything that touches an engine's tensors runs here, between two steps: new requests, cancellations, adapters that come and
go. Others hand it jobs and get tokens back through a sink, a plain function that must return at once.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from budwood.errors import BudwoodError, ServeError
from budwood.serve.backend import Sink, Ticket

if TYPE_CHECKING:
    from budwood.engine.generate import Generator, Request

T = TypeVar("T")


class Worker:
    """Runs a generator in its own thread until closed: the embedded `Engine`.

    Args:
        generator: from now on touched by no other thread.
        name: of the thread.
    """

    def __init__(self, generator: "Generator", *, name: str) -> None:
        self.generator = generator
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._tickets: dict[int, Ticket] = {}
        self._closing = False
        self._lock = threading.Lock()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return not self._ended

    @property
    def context(self) -> int:
        return self.generator.context

    def ready(self, slot: int) -> bool:
        return self.alive

    def check(self, request: "Request") -> None:
        self.generator.check(request)

    def compile_schema(self, schema: str) -> None:
        self.generator.grammars().compile(schema)

    def submit(self, request: "Request", sink: Sink, *, urgent: bool = False) -> Ticket:
        """Queue a request, at the head if urgent; its tokens, or an error, arrive at the sink.

        Raises:
            ServeError: the worker has ended.
        """
        ticket = Ticket(request, sink, urgent)
        self._post(lambda: self._start(ticket))
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Stop a job; after the step in progress its sink is called no more. Does nothing if it has ended."""
        ticket.gone = True
        if self.alive:
            self._post(lambda: self._drop(ticket))

    def call(self, function: Callable[[], T]) -> "Future[T]":
        """Run a function between two steps; its result or exception is in the future.

        Raises:
            ServeError: the worker has ended.
        """
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except Exception as error:
                future.set_exception(error)

        self._post(run)
        return future

    def close(self) -> None:
        """End the thread after the step in progress; jobs that are still open get an error."""
        if self.alive:
            self._post(self._close)
        self._thread.join()

    def _post(self, job: Callable[[], None]) -> None:
        # The lock makes "ended" and "posted" exclude each other: a job is either run or refused, never left in the inbox.
        with self._lock:
            if self._ended:
                raise _ended()
            self._inbox.put(job)

    def _run(self) -> None:
        try:
            while not self._closing:
                self._take_jobs()
                for token in self.generator.step():
                    ticket = self._tickets[token.request]
                    if token.finish is not None:
                        del self._tickets[token.request]
                    if not ticket.gone:
                        ticket.sink(token)
        finally:
            # Also after an error that nobody expected: those who wait must learn that no token will come.
            with self._lock:
                self._ended = True
            while not self._inbox.empty():
                self._inbox.get()()
            for ticket in self._tickets.values():
                if not ticket.gone:
                    ticket.sink(_ended())

    def _take_jobs(self) -> None:
        """Run the jobs that wait; block for one if there is nothing else to do."""
        if not self.generator.active:
            self._inbox.get()()
        while not self._closing and not self._inbox.empty():
            self._inbox.get()()

    def _start(self, ticket: Ticket) -> None:
        if self._ended:
            ticket.sink(_ended())
            return
        if ticket.gone:
            return
        try:
            ticket.id = self.generator.submit(ticket.request, urgent=ticket.urgent)
        except BudwoodError as error:
            ticket.sink(error)
            return
        except Exception as error:
            # One request must not end the engine under all others.
            ticket.sink(ServeError(f"The request could not be started: {type(error).__name__}: {error}."))
            return
        self._tickets[ticket.id] = ticket

    def _drop(self, ticket: Ticket) -> None:
        if ticket.id is not None and self.generator.cancel(ticket.id):
            del self._tickets[ticket.id]

    def _close(self) -> None:
        self._closing = True


def _ended() -> ServeError:
    return ServeError("The engine has stopped; no answer can be made.", mend="Look at the server's log, then start it again.")
