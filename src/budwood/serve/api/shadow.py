"""Copies of requests for a shadow: made after the client has its answer, where there is room, and dropped where there is none.

A copy begins only while the engines have places free that no request waits for, and few run at once; so what clients wait for
is at most one step longer. The queue of copies is short: what does not fit is dropped, and counted.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace

from budwood.errors import BudwoodError
from budwood.serve.api.choice import Choice
from budwood.serve.api.context import Context
from budwood.serve.api.faults import ApiError
from budwood.serve.api.flight import OVERDUE, Flight
from budwood.serve.api.jobs import Job
from budwood.serve.directory import Live
from budwood.serve.exchange import Answer, End, Exchange

MOST_WAITING = 64
MOST_RUNNING = 4
LONGEST_S = 120.0
MakeJob = Callable[[Live], Awaitable[Job]]


class Shadows:
    """Lives in the event loop."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: deque[tuple[Exchange, MakeJob]] = deque()
        self._running: set[asyncio.Task[None]] = set()

    def offer(self, exchange: Exchange, make_job: MakeJob) -> None:
        """Take a copy of an answered request, if its sender is in the share of a shadow; returns at once."""
        if exchange.end == "answered" and self._context.directory.has_shadow(exchange.model, exchange.key):
            if len(self._waiting) < MOST_WAITING:
                self._waiting.append((exchange, make_job))
            else:
                self._context.metrics.dropped.labels("shadow").inc()
        self._begin()

    def _begin(self) -> None:
        free = max(1, self._context.settings.max_batch // 2)
        while self._waiting and len(self._running) < MOST_RUNNING and self._context.admission.taken <= free:
            task = asyncio.ensure_future(self._answer(*self._waiting.popleft()))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.result()  # what nobody foresaw goes to the loop's log
            self._begin()

    async def _answer(self, exchange: Exchange, make_job: MakeJob) -> None:
        with self._context.directory.acquire_shadow(exchange.model, exchange.key) as live:
            if live is None:
                return  # it ended while this waited
            began = self._context.clock()
            answers: list[Answer] = []
            schema: str | None = None
            end: End = "answered"
            try:
                job = await make_job(live)
                schema = job.requests[0].json_schema
                answers = await self._collect(live, job)
            except BudwoodError as error:
                end = "given up" if isinstance(error, ApiError) and error.code == OVERDUE else "failed"
            seconds = self._context.clock() - began
            self._context.finished(
                replace(exchange, live=live, schema=schema, answers=answers, end=end, seconds=seconds, shadow_of=exchange)
            )

    async def _collect(self, live: Live, job: Job) -> list[Answer]:
        assert self._context.mailbox is not None
        choices = [Choice(live.texts, job.stops, item.stop_ids, piecewise=False) for item in job.requests]
        flight = Flight(live.worker, self._context.mailbox, job.requests, choices, deadline_s=LONGEST_S)
        texts: list[list[str]] = [[] for _ in choices]
        try:
            async for index, delta in flight.deltas():
                texts[index].append(delta.text)
        finally:
            flight.cancel()
        return [Answer("".join(text), choice.finish or "") for text, choice in zip(texts, choices, strict=True)]
