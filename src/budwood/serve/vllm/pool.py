"""Several vLLM servers as one: who answers, who takes over, and what each must have proved before.

One event loop on a thread of its own; everything else happens there, so nothing is locked. A request goes to the least
busy server on which its release has proved itself. If that server goes away before the first token, another one answers;
after the first token the client gets an error, since nobody can continue another server's answer.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from budwood.errors import BudwoodError, ServeError
from budwood.events import Event, Reporter
from budwood.serve.backend import Ticket, UnavailableError
from budwood.serve.vllm.client import GoneError, LostAdapterError
from budwood.serve.vllm.replica import Placement, Replica, context_of
from budwood.serve.vllm.wire import completion_body, read_score, scoring_body, tokens_of

if TYPE_CHECKING:
    from budwood.engine.generate import Token

CHECK_S = 1.0
RETRY_S = 30.0
"""A release that was refused by one server among several is tried there again after so long."""
START_S = 1800.0
CALL_S = 2400.0
T = TypeVar("T")


@dataclass(eq=False)
class _Job:
    """A request under way. `placement` None: the base without any adapter, on a server named by `only`."""

    ticket: Ticket
    placement: Placement | None
    only: Replica | None
    made: int = 0
    ended: bool = False

    def give(self, item: "Token | BudwoodError") -> None:
        if self.ended or self.ticket.gone:
            return
        self.ended = isinstance(item, BudwoodError) or item.finish is not None
        self.made += 0 if isinstance(item, BudwoodError) else 1
        self.ticket.sink(item)


class Pool:
    """The servers of one base.

    Args:
        replicas: the servers; from now on used by the pool's event loop alone.
        report: told of what comes, goes and fails.
        check_s: seconds between looks at the servers.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        *,
        report: Reporter,
        check_s: float = CHECK_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.replicas = tuple(replicas)
        self._report = report
        self._check_s = check_s
        self._clock = clock
        self._loop = asyncio.new_event_loop()
        self._closed = False
        self._jobs: dict[Ticket, asyncio.Task[None]] = {}
        self._wanted: dict[str, Placement] = {}
        self.tokens_made = 0
        self._watching: list[asyncio.Task[None]] = []
        self._thread = threading.Thread(target=self._run, name="vllm", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return not self._closed

    @property
    def healthy(self) -> bool:
        """Whether a server is up; or none was so far, because they are being started."""
        return any(replica.up for replica in self.replicas) or not any(replica.was_up for replica in self.replicas)

    @property
    def active(self) -> int:
        return len(self._jobs)

    @property
    def context(self) -> int | None:
        return context_of(self.replicas)

    def ready(self, name: str) -> bool:
        """Whether a server is up on which this release has proved itself; one that was started again proves it anew first."""
        return any(replica.up and name in replica.proved for replica in self.replicas)

    def bring(self, placement: Placement) -> None:
        """Load a release on every server that is up, and prove it on each.

        Raises:
            UnavailableError: no server is up.
            BudwoodError: a server refused it, or computes something else; it is loaded nowhere then.
        """
        self._call(self._bring(placement))

    def withdraw(self, name: str) -> None:
        """Unload a release everywhere. No request may be using it."""
        self._call(self._withdraw(name))

    def submit(self, ticket: Ticket, placement: Placement | None, only: Replica | None = None) -> None:
        """Begin a request.

        Raises:
            ServeError: the pool is closed.
        """
        if self._closed:
            raise _closed()
        self._loop.call_soon_threadsafe(self._begin, _Job(ticket, placement, only))

    def cancel(self, ticket: Ticket) -> None:
        """Stop a request, at its server too."""
        ticket.gone = True
        if not self._closed:
            self._loop.call_soon_threadsafe(self._drop, ticket)

    def close(self) -> None:
        """End all requests, and the servers that are ours."""
        if self._closed:
            return
        self._closed = True
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(CALL_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._watching = [self._loop.create_task(self._watch(replica)) for replica in self.replicas]
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        if self._closed:
            work.close()
            raise _closed()
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_S)

    async def _watch(self, replica: Replica) -> None:
        # Each on its own: proving a release again on one server must not keep us from seeing that another one is gone.
        while True:
            await self._tend(replica)
            await asyncio.sleep(self._check_s)

    async def _tend(self, replica: Replica) -> None:
        """Look at one server, and bring it up to what is wanted."""
        try:
            await replica.look()
            for placement in list(self._wanted.values()):
                if replica.up and placement.name not in replica.proved:
                    await self._bring_back(replica, placement)
        except Exception as error:
            # One server's trouble, of whatever kind, must not end the watch over the others.
            self._report(Event("serve", f"{replica.title}: {error}"))

    async def _bring_back(self, replica: Replica, placement: Placement) -> None:
        if self._clock() < replica.retry_at.get(placement.name, 0.0):
            return
        try:
            await replica.place(placement)
        except BudwoodError as error:
            replica.retry_at[placement.name] = self._clock() + RETRY_S
            self._report(Event("serve", f"{placement.name} is kept from {replica.title}: {error}"))
            return
        if placement.name not in self._wanted:
            await replica.remove(placement)
            return
        self._report(Event("serve", f"{placement.name} is proved again on {replica.title}"))

    async def _bring(self, placement: Placement) -> None:
        await self._some_up()
        replicas = [replica for replica in self.replicas if replica.up]
        done = await asyncio.gather(*(replica.place(placement) for replica in replicas), return_exceptions=True)
        failures = [item for item in done if isinstance(item, BaseException)]
        refusals = [item for item in failures if not isinstance(item, GoneError)]
        if refusals or len(failures) == len(replicas):
            for replica in replicas:
                await replica.remove(placement)
            raise (refusals or failures or [self._none_up()])[0]
        self._wanted[placement.name] = placement

    async def _withdraw(self, name: str) -> None:
        placement = self._wanted.pop(name, None)
        if placement is not None:
            for replica in self.replicas:
                await replica.remove(placement)

    def _none_up(self) -> UnavailableError:
        return _none_up([replica.trouble for replica in self.replicas if replica.trouble])

    async def _some_up(self) -> None:
        """Wait for a server that we start ourselves; look once at others."""
        until = self._clock() + START_S
        while not any(replica.up for replica in self.replicas):
            await asyncio.gather(*(replica.look() for replica in self.replicas))
            ours = [replica.process for replica in self.replicas if replica.process is not None]
            if any(replica.up for replica in self.replicas):
                return
            fresh = not any(replica.was_up for replica in self.replicas)
            dead = next((one for one in ours if fresh and one.pid is not None and not one.running), None)
            if dead is not None:
                raise dead.died()
            if not ours or self._clock() > until:
                raise self._none_up()
            await asyncio.sleep(min(self._check_s, 0.2))

    def _begin(self, job: _Job) -> None:
        if self._closed:
            job.give(_closed())
            return
        if not job.ticket.gone:
            task = self._loop.create_task(self._answer(job))
            self._jobs[job.ticket] = task
            task.add_done_callback(lambda _: self._jobs.pop(job.ticket, None))

    def _drop(self, ticket: Ticket) -> None:
        task = self._jobs.get(ticket)
        if task is not None:
            task.cancel()

    async def _answer(self, job: _Job) -> None:
        tried: set[Replica] = set()
        failure: BudwoodError = self._none_up()
        while (replica := self._choose(job, tried)) is not None:
            tried.add(replica)
            try:
                await self._on(replica, job)
                return
            except GoneError as error:
                failure = error
                await self._doubt(replica, job, error)
                if job.made:
                    break
            except BudwoodError as error:
                failure = error
                break
            except Exception as error:
                failure = ServeError(f"The request failed: {type(error).__name__}: {error}.")
                break
        job.give(failure)

    def _choose(self, job: _Job, tried: set[Replica]) -> Replica | None:
        if job.only is not None:
            return None if job.only in tried else job.only
        name = "" if job.placement is None else job.placement.name
        able = [replica for replica in self.replicas if replica.up and name in replica.proved and replica not in tried]
        return min(able, key=lambda replica: len(replica.calls), default=None)

    async def _doubt(self, replica: Replica, job: _Job, error: GoneError) -> None:
        """After a request that failed: is the server still there, and does it still have the release?"""
        if isinstance(error, LostAdapterError) and job.placement is not None:
            replica.proved.discard(job.placement.name)
        elif job.only is None:
            await replica.look()

    async def _on(self, replica: Replica, job: _Job) -> None:
        """Answer on one server, until it has answered or is found gone."""
        call = self._loop.create_task(self._exchange(replica, job))
        replica.calls.add(call)
        try:
            await call
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise GoneError(f"{replica.title} went away while it was answering.") from None
        finally:
            replica.calls.discard(call)

    async def _exchange(self, replica: Replica, job: _Job) -> None:
        request, placement = job.ticket.request, job.placement
        model = replica.base if placement is None or placement.folder is None else placement.name
        salt = "base" if placement is None else placement.salt
        if request.forced:
            await self._score(replica, job, model, salt)
            return
        body = completion_body(request, model=model, salt=salt)
        try:
            async with aclosing(replica.client.stream(body)) as pieces:
                async for piece in pieces:
                    for token in tokens_of(piece, request, job.made):
                        self.tokens_made += 1
                        job.give(token)
        except GoneError:
            # What broke off after its last token is an answer all the same.
            if not job.ended:
                raise

    async def _score(self, replica: Replica, job: _Job, model: str, salt: str) -> None:
        from budwood.engine.generate import Token

        text, forced = list(job.ticket.request.prompt), job.ticket.request.forced
        for place, token in enumerate(forced, 1):
            reply = await replica.client.complete(scoring_body(text, token, model=model, salt=salt))
            job.give(Token(0, token, read_score(reply, token), (), "length" if place == len(forced) else None))
            text.append(token)

    async def _close(self) -> None:
        for watching in self._watching:
            watching.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        for ticket, task in list(self._jobs.items()):
            task.cancel()
            if not ticket.gone:
                ticket.gone = True
                ticket.sink(_closed())
        for replica in self.replicas:
            await replica.close(list(self._wanted.values()))


def _none_up(troubles: Sequence[str]) -> UnavailableError:
    return UnavailableError(
        " ".join(["No vLLM server that has this release is up.", *troubles]),
        mend="Look at the vLLM servers and their logs, or try again soon.",
    )


def _closed() -> ServeError:
    return ServeError("The vLLM servers are not used any more; no answer can be made.", mend="Start the server again.")
