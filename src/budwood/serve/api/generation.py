"""The two generating endpoints: run a job and reply, whole or as a stream of events."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from budwood.errors import BudwoodError
from budwood.serve.api.answers import ChatShape, CompletionShape, Frame, Shape, Whole, usage
from budwood.serve.api.choice import Choice
from budwood.serve.api.context import Context
from budwood.serve.api.faults import ApiError, engine_fault, error_object
from budwood.serve.api.flight import Flight
from budwood.serve.api.jobs import Job, chat_job, completion_job
from budwood.serve.api.schema import read_chat, read_completion
from budwood.serve.backend import UnavailableError
from budwood.serve.directory import Live, NotUpError, UnknownModelError

DEMAND_TRIES = 4
"""Between a load and the request that asked for it, others' loads may have made room of it."""
RELEASE_HEADER = "x-budwood-release"
CLIENT_GONE = 499
"""Status for our own figures; the client that closed its connection never sees it."""


@dataclass
class _Run:
    """One request being answered: `hold` gives everything back when closed."""

    context: Context
    live: Live
    job: Job
    shape: Shape
    frame: Frame
    flight: Flight
    hold: ExitStack
    began: float
    first_token_s: float | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {RELEASE_HEADER: self.live.digest}

    def note_token(self) -> None:
        if self.first_token_s is None:
            self.first_token_s = self.context.clock() - self.began
            self.context.metrics.first_token.observe(self.first_token_s)


async def chat(context: Context, request: Request, body: Mapping[str, Any]) -> Response:
    """Answer POST /v1/chat/completions."""
    wanted = read_chat(body)
    return await _answer(context, request, wanted.model, "chatcmpl", ChatShape, lambda live: chat_job(context, live, wanted))


async def completion(context: Context, request: Request, body: Mapping[str, Any]) -> Response:
    """Answer POST /v1/completions."""
    wanted = read_completion(body)
    return await _answer(
        context, request, wanted.model, "cmpl", CompletionShape, lambda live: completion_job(context, live, wanted)
    )


async def _answer(
    context: Context,
    request: Request,
    model: str,
    prefix: str,
    shape: Callable[[Any], Shape],
    make_job: Callable[[Live], Awaitable[Job]],
) -> Response:
    assert context.mailbox is not None
    with ExitStack() as hold:
        began = context.clock()
        live = await _acquire(context, hold, model)
        hold.enter_context(_naming(live))
        job = await make_job(live)
        _enter(context, hold, len(job.requests), live.digest)
        frame = Frame(f"{prefix}-{context.new_id()}", int(context.wall_clock()), model, live.digest)
        piecewise = job.streamed or job.logprobs
        choices = [Choice(live.texts, job.stops, item.stop_ids, piecewise=piecewise) for item in job.requests]
        flight = Flight(live.worker, context.mailbox, job.requests, choices, timeout_s=context.settings.timeout_s)
        hold.callback(flight.cancel)
        run = _Run(context, live, job, shape(live.texts), frame, flight, hold, began)
        hold.callback(_record, run)
        if job.streamed:
            # From here on the stream owns what is held, and gives it back when it ends, however it ends.
            run.hold = hold.pop_all()
            return _EventStream(run)
        return await _whole(run, request)


async def _acquire(context: Context, hold: ExitStack, model: str) -> Live:
    try:
        for _ in range(DEMAND_TRIES):
            try:
                return hold.enter_context(context.directory.acquire(model))
            except UnknownModelError:
                if context.demand is None or not await context.demand.load(model):
                    raise
        raise UnavailableError(f"The model {model!r} was unloaded again for others before it could answer.")
    except UnavailableError as error:
        raise engine_fault(error) from None
    except NotUpError as error:
        raise ApiError(503, error.what, param="model", code="not_up", headers={"retry-after": "1"}, mend=error.mend) from None
    except UnknownModelError as error:
        if not context.synced():
            raise ApiError(
                503, "The server is still loading its releases.", code="loading", headers={"retry-after": "1"}
            ) from None
        raise ApiError(404, error.what, param="model", code="model_not_found", mend=error.mend) from None


@contextmanager
def _naming(live: Live) -> Iterator[None]:
    """Name the release on errors too: what was refused or failed was so under it."""
    try:
        yield
    except BudwoodError as error:
        fault = error if isinstance(error, ApiError) else engine_fault(error)
        fault.headers.setdefault(RELEASE_HEADER, live.digest)
        raise fault from error


def _enter(context: Context, hold: ExitStack, choices: int, release: str) -> None:
    try:
        context.admission.enter(choices, release)
    except ApiError as error:
        if error.status == 429:
            context.metrics.refused.inc()
        raise
    context.metrics.in_flight.inc(choices)
    hold.callback(context.metrics.in_flight.dec, choices)
    hold.callback(context.admission.leave, choices, release)


def _record(run: _Run) -> None:
    metrics, release = run.context.metrics, run.live.concrete
    metrics.duration.observe(run.context.clock() - run.began)
    metrics.prompt_tokens.labels(release).inc(run.job.prompt_tokens)
    metrics.new_tokens.labels(release).inc(run.flight.new_tokens)
    for choice in run.flight.choices:
        metrics.answers.labels(release, choice.finish or "unfinished").inc()


async def _whole(run: _Run, request: Request) -> Response:
    work = asyncio.ensure_future(_collect(run))
    gone = asyncio.ensure_future(_client_gone(request))
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            return Response(status_code=CLIENT_GONE)
        return JSONResponse(work.result(), headers=run.headers)
    finally:
        for task in (work, gone):
            task.cancel()
            with suppress(asyncio.CancelledError, BudwoodError):
                await task


async def _client_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _collect(run: _Run) -> dict[str, Any]:
    wholes = [Whole([], [], "") for _ in run.flight.choices]
    async for index, delta in run.flight.deltas():
        run.note_token()
        wholes[index].texts.append(delta.text)
        wholes[index].entries.extend(delta.entries)
        wholes[index].finish = delta.finish or ""
    choices = [run.shape.choice(index, whole, logprobs=run.job.logprobs) for index, whole in enumerate(wholes)]
    return {**run.frame.of(run.shape.whole, choices), "usage": usage(run.job.prompt_tokens, run.flight.new_tokens)}


class _EventStream(StreamingResponse):
    """Server-sent events; whatever ends it, what the run holds is given back."""

    media_type = "text/event-stream"

    def __init__(self, run: _Run) -> None:
        super().__init__(_events(run), headers={**run.headers, "cache-control": "no-store"})
        self._hold = run.hold

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._hold:
            await super().__call__(scope, receive, send)


async def _events(run: _Run) -> AsyncIterator[bytes]:
    # OpenAI's rule: with include_usage every chunk has the key, and only the last, without choices, a value.
    unused: dict[str, Any] = {"usage": None} if run.job.include_usage else {}

    def chunk(choice: dict[str, Any]) -> bytes:
        return _event({**run.frame.of(run.shape.chunk, [choice]), **unused})

    try:
        for index in range(len(run.flight.choices)):
            opening = run.shape.opening(index)
            if opening is not None:
                yield chunk(opening)
        async for index, delta in run.flight.deltas():
            run.note_token()
            if delta.text or delta.entries or delta.finish is not None:
                yield chunk(run.shape.delta(index, delta, logprobs=run.job.logprobs))
        if run.job.include_usage:
            used = usage(run.job.prompt_tokens, run.flight.new_tokens)
            yield _event({**run.frame.of(run.shape.chunk, []), "usage": used})
    except BudwoodError as error:
        # The status line has gone out; the client's library raises on an event that has an error in it.
        fault = error if isinstance(error, ApiError) else engine_fault(error)
        yield _event(error_object(fault))
    yield b"data: [DONE]\n\n"


def _event(value: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n\n"
