"""One accepted request on its way through the engine: its choices, their tokens, and what happens when the client goes."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from budwood.errors import BudwoodError
from budwood.serve.api.choice import Choice, Delta
from budwood.serve.api.faults import ApiError
from budwood.serve.backend import Engine, Sink, Ticket

if TYPE_CHECKING:
    from budwood.engine.generate import Request, Token


class Mailbox:
    """Carries tokens from engine threads to the event loop, one wake-up for all that are there."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._items: deque[tuple[asyncio.Queue[tuple[int, Token | BudwoodError]], int, Token | BudwoodError]] = deque()
        self._awake = False

    def put(self, target: "asyncio.Queue[tuple[int, Token | BudwoodError]]", index: int, item: "Token | BudwoodError") -> None:
        """Send an item to a queue of the event loop; from any thread."""
        self._items.append((target, index, item))
        # Append first, look second; `_deliver` does it the other way round. So no item can be left without a wake-up.
        if not self._awake and not self._loop.is_closed():
            self._awake = True
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._awake = False
        while self._items:
            target, index, item = self._items.popleft()
            target.put_nowait((index, item))


OVERDUE = "deadline_exceeded"


class Admission:
    """A bound on the choices that wait or are being generated, and on answers streamed. Used in the event loop only.

    A quarter of the places is kept for releases that have none: a crowd at one must not shut others out.
    """

    def __init__(self, limit: int, streams: int) -> None:
        self.limit = limit
        self.streams = streams
        self.taken = 0
        self._taken_by: Counter[str] = Counter()
        self.streamed = 0

    def enter_stream(self) -> None:
        """Take a place for a stream.

        Raises:
            ApiError: 429: all are taken.
        """
        if self.streamed >= self.streams:
            raise ApiError(
                429,
                f"{self.streamed:,} answers are being streamed; {self.streams:,} is the limit.",
                code="too_many_streams",
                headers={"retry-after": "1"},
                mend="Try again in a second.",
            )
        self.streamed += 1

    def leave_stream(self) -> None:
        self.streamed -= 1

    def enter(self, choices: int, release: str) -> None:
        """Take places.

        Raises:
            ApiError: 429 with `Retry-After`: not enough are free now; 400: there would never be enough.
        """
        if choices > self.limit:
            raise ApiError(400, f"{choices:,} choices at once; this server takes {self.limit:,}.", param="n", code="too_many")
        kept = self.limit // 4 if self._taken_by[release] else 0
        if self.taken + choices > self.limit - kept:
            raise ApiError(
                429,
                f"{self.taken:,} choices are waiting or running; {self.limit:,} is the limit.",
                code="queue_full",
                headers={"retry-after": "1"},
                mend="Try again in a second.",
            )
        self.taken += choices
        self._taken_by[release] += choices

    def leave(self, choices: int, release: str) -> None:
        self.taken -= choices
        self._taken_by[release] -= choices
        if not self._taken_by[release]:
            del self._taken_by[release]


class Flight:
    """Submits one engine request a choice and yields what each token adds.

    Args:
        worker: runs them.
        mailbox: of the event loop in which this object lives.
        requests: one a choice.
        choices: beside them.
        deadline_s: from now on, after which what is not whole is broken off.
    """

    def __init__(
        self,
        worker: Engine,
        mailbox: Mailbox,
        requests: Sequence["Request"],
        choices: Sequence[Choice],
        *,
        deadline_s: float,
    ) -> None:
        self.choices = list(choices)
        self._worker = worker
        self._queue: asyncio.Queue[tuple[int, Token | BudwoodError]] = asyncio.Queue()
        self._tickets: list[Ticket] = []
        self._deadline = asyncio.get_running_loop().call_later(deadline_s, self._break_off, deadline_s)
        for index, request in enumerate(requests):
            self._tickets.append(worker.submit(request, _sink(mailbox, self._queue, index)))

    async def deltas(self) -> AsyncIterator[tuple[int, Delta]]:
        """Yield (choice, what was added) until every choice has ended.

        Raises:
            BudwoodError: the engine refused or could not go on, or the time is over. All choices are cancelled.
        """
        open_choices = set(range(len(self.choices)))
        while open_choices:
            index, item = await self._queue.get()
            if index not in open_choices:
                continue
            if isinstance(item, BudwoodError):
                raise item
            delta = self.choices[index].push(item)
            if delta.finish is not None:
                open_choices.discard(index)
                if item.finish is None:
                    self._worker.cancel(self._tickets[index])
            yield index, delta
        self._deadline.cancel()

    def cancel(self) -> None:
        """Stop all choices that have not ended. May be called at any time, and twice."""
        self._deadline.cancel()
        for choice, ticket in zip(self.choices, self._tickets, strict=False):
            if choice.finish is None:
                self._worker.cancel(ticket)

    def _break_off(self, deadline_s: float) -> None:
        # Trying again would only add to what makes answers slow.
        error = ApiError(
            504,
            f"The answer was not whole after {deadline_s:g} s.",
            code=OVERDUE,
            headers={"x-should-retry": "false"},
            mend="Ask for fewer tokens, or raise [serve] deadline_s.",
        )
        for index, choice in enumerate(self.choices):
            if choice.finish is None:
                self._queue.put_nowait((index, error))

    @property
    def new_tokens(self) -> int:
        return sum(choice.tokens for choice in self.choices)


def _sink(mailbox: Mailbox, target: "asyncio.Queue[tuple[int, Token | BudwoodError]]", index: int) -> Sink:
    def put(item: "Token | BudwoodError") -> None:
        mailbox.put(target, index, item)

    return put
