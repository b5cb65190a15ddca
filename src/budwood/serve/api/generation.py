"""The two generating endpoints: run a job and reply, whole or as a stream of events."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from budwood.errors import BudwoodError
from budwood.serve.api.answers import ChatShape, CompletionShape, Frame, Shape, Whole, usage
from budwood.serve.api.call import Call, call_of
from budwood.serve.api.choice import Choice, Delta
from budwood.serve.api.context import Context
from budwood.serve.api.faults import ApiError, engine_fault, error_object
from budwood.serve.api.flight import OVERDUE, Flight
from budwood.serve.api.jobs import Job, chat_job, completion_job
from budwood.serve.api.quota import Quota
from budwood.serve.api.schema import ChatRequest, CompletionRequest, GenerationRequest
from budwood.serve.api.sender import key_of, prompt_of
from budwood.serve.backend import UnavailableError
from budwood.serve.demand import Demand
from budwood.serve.directory import AmbiguousModelError, Live, NotUpError, UnknownModelError
from budwood.serve.exchange import Answer, End, Exchange

RELEASE_HEADER = "x-budwood-release"
CLIENT_GONE = 499
"""Status for our own figures; the client that closed its connection never sees it."""


@dataclass(frozen=True)
class _Asked:
    """A checked request, who sent it and when: `began` by the clock for durations, `at` by the wall's."""

    wanted: GenerationRequest
    id: str
    key: str
    began: float
    at: float


@dataclass
class _Run:
    """One request being answered: `hold` gives everything back when closed."""

    context: Context
    live: Live
    call: Call
    job: Job
    shape: Shape
    frame: Frame
    flight: Flight
    hold: ExitStack
    asked: "_Asked"
    wholes: list[Whole]
    make_job: Callable[[Live], Awaitable[Job]]
    limits: dict[str, str]
    first_token_s: float | None = None
    failed: bool = False

    @property
    def headers(self) -> dict[str, str]:
        return {RELEASE_HEADER: self.live.digest, **self.limits}

    @property
    def echoes(self) -> Sequence[str]:
        """What comes before each choice."""
        return self.job.echoes or [""] * len(self.flight.choices)

    async def deltas(self) -> AsyncIterator[tuple[int, Delta]]:
        """Yield what each token adds, and keep it."""
        try:
            async for index, delta in self.flight.deltas():
                self._note_token()
                self.wholes[index].texts.append(delta.text)
                self.wholes[index].finish = delta.finish or ""
                yield index, delta
        except BudwoodError as error:
            self.failed = True
            if isinstance(error, ApiError) and error.code == OVERDUE:
                self.context.metrics.overdue.labels(self.live.concrete).inc()
            raise

    def _note_token(self) -> None:
        if self.first_token_s is None:
            self.first_token_s = self.context.clock() - self.asked.began
            self.context.metrics.first_token.labels(self.live.concrete).observe(self.first_token_s)


async def chat(context: Context, request: Request, wanted: ChatRequest) -> Response:
    """Answer POST /v1/chat/completions."""
    return await _answer(context, request, wanted, "chatcmpl", ChatShape, lambda live: chat_job(context, live, wanted))


async def completion(context: Context, request: Request, wanted: CompletionRequest) -> Response:
    """Answer POST /v1/completions."""
    return await _answer(context, request, wanted, "cmpl", CompletionShape, lambda live: completion_job(context, live, wanted))


async def _answer(
    context: Context,
    request: Request,
    wanted: GenerationRequest,
    prefix: str,
    shape: Callable[[Any], Shape],
    make_job: Callable[[Live], Awaitable[Job]],
) -> Response:
    assert context.mailbox is not None
    call = call_of(request)
    check_may_ask(call, wanted.model)
    quota = Quota(context, call.caller.name)
    quota.take("requests", 1)
    with ExitStack() as hold:
        asked = _Asked(wanted, f"{prefix}-{context.new_id()}", key_of(request, wanted), context.clock(), context.wall_clock())
        live = await _acquire(context, hold, asked)
        call.figures["release"] = live.digest
        hold.enter_context(_naming(context, live, asked))
        job = await make_job(live)
        quota.take("tokens", job.most_tokens)
        hold.callback(lambda: quota.give_back(job.most_tokens - call.figures.get("tokens", 0)))
        _enter(context, hold, job, live.digest)
        frame = Frame(asked.id, int(asked.at), wanted.model, live.digest)
        piecewise = job.streamed or job.logprobs
        choices = [Choice(live.texts, job.stops, item.stop_ids, piecewise=piecewise) for item in job.requests]
        flight = Flight(live.worker, context.mailbox, job.requests, choices, deadline_s=context.settings.deadline_s)
        hold.callback(flight.cancel)
        wholes = [Whole([], [], "") for _ in choices]
        run = _Run(context, live, call, job, shape(live.texts), frame, flight, hold, asked, wholes, make_job, quota.headers)
        hold.callback(_record, run)
        if job.streamed:
            # From here on the stream owns what is held, and gives it back when it ends, however it ends.
            run.hold = hold.pop_all()
            return _EventStream(run)
        return await _whole(run, request)


async def _acquire(context: Context, hold: ExitStack, asked: _Asked) -> Live:
    """Find the release that is to answer, bring it up if it is not loaded, and hold it.

    Raises:
        ApiError: 404: there is none; 503: trying again soon makes sense; 422: it was refused, and would be again.
    """
    model, key = asked.wanted.model, asked.key
    try:
        try:
            return hold.enter_context(context.directory.acquire(model, key))
        except AmbiguousModelError:
            raise
        except UnknownModelError:
            if context.demand is None:
                raise context.directory.unknown(model) from None
        return await _acquire_on_demand(context.demand, context, hold, asked)
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


async def _acquire_on_demand(demand: Demand, context: Context, hold: ExitStack, asked: _Asked) -> Live:
    model = asked.wanted.model
    try:
        async with demand.loaded(model) as found:
            if not found:
                raise context.directory.unknown(model)
            try:
                return hold.enter_context(context.directory.acquire(model, asked.key))
            except UnknownModelError:
                raise UnavailableError(f"The model {model!r} was lost again: its engine has stopped.") from None
    except (UnavailableError, UnknownModelError, NotUpError):
        raise
    except BudwoodError as error:
        raise ApiError(422, error.what, param="model", code="release_refused", mend=error.mend) from None


@contextmanager
def _naming(context: Context, live: Live, asked: _Asked) -> Iterator[None]:
    """Name the release on errors too: what was refused or failed was so under it."""
    try:
        yield
    except BudwoodError as error:
        fault = error if isinstance(error, ApiError) else engine_fault(error)
        fault.headers.setdefault(RELEASE_HEADER, live.digest)
        if fault.status >= 500:
            context.finished(_exchange(context, live, asked, "failed"))
        raise fault from error
    except Exception:
        context.finished(_exchange(context, live, asked, "failed"))
        raise


def check_may_ask(call: Call, model: str) -> None:
    """Refuse a release name that the caller's token is not for, whether or not there is one.

    Raises:
        ApiError: 403.
    """
    if not call.caller.may_ask(model):
        raise ApiError(
            403,
            f"The token {call.caller.name!r} may not ask {model!r}; it may ask {', '.join(sorted(call.caller.models))}.",
            param="model",
            code="insufficient_permissions",
        )


def _enter(context: Context, hold: ExitStack, job: Job, release: str) -> None:
    choices = len(job.requests)
    try:
        if job.streamed:
            context.admission.enter_stream()
            hold.callback(context.admission.leave_stream)
            context.metrics.streams.inc()
            hold.callback(context.metrics.streams.dec)
        context.admission.enter(choices, release)
    except ApiError as error:
        if error.status == 429:
            context.metrics.refused.inc()
        raise
    context.metrics.in_flight.inc(choices)
    hold.callback(context.metrics.in_flight.dec, choices)
    hold.callback(context.admission.leave, choices, release)


def _exchange(
    context: Context, live: Live, asked: _Asked, end: End, schema: str | None = None, wholes: Sequence[Whole] = ()
) -> Exchange:
    messages, prompts, tools = prompt_of(
        asked.wanted,
        live.texts,
        spelled=end == "answered"
        and (context.settings.sample > 0 or context.directory.has_shadow(asked.wanted.model, asked.key)),
    )
    return Exchange(
        id=asked.id,
        model=asked.wanted.model,
        live=live,
        key=asked.key,
        messages=messages,
        prompts=prompts,
        tools=tools,
        choices=asked.wanted.n or 1,
        schema=schema,
        answers=[Answer(whole.text, whole.finish) for whole in wholes],
        end=end,
        at=asked.at,
        seconds=context.clock() - asked.began,
    )


def _record(run: _Run) -> None:
    metrics, release = run.context.metrics, run.live.concrete
    metrics.duration.labels(release).observe(run.context.clock() - run.asked.began)
    if not run.failed:
        whole = all(choice.finish is not None for choice in run.flight.choices)
        schema = run.job.requests[0].json_schema
        end: End = "answered" if whole else "given up"
        exchange = _exchange(run.context, run.live, run.asked, end, schema, run.wholes if whole else ())
        run.context.finished(exchange)
        run.context.shadows.offer(exchange, run.make_job)
    metrics.prompt_tokens.labels(release).inc(run.job.prompt_tokens)
    metrics.new_tokens.labels(release).inc(run.flight.new_tokens)
    run.call.figures.update(prompt_tokens=run.job.prompt_tokens, new_tokens=run.flight.new_tokens)
    run.call.figures["tokens"] = run.job.prompt_tokens + run.flight.new_tokens
    if run.first_token_s is not None:
        run.call.figures["first_token_s"] = round(run.first_token_s, 6)
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
    async for index, delta in run.deltas():
        run.wholes[index].entries.extend(delta.entries)
    said = [
        Whole([echo, *whole.texts], whole.entries, whole.finish) for echo, whole in zip(run.echoes, run.wholes, strict=True)
    ]
    choices = [run.shape.choice(index, whole, logprobs=run.job.logprobs) for index, whole in enumerate(said)]
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
            if run.echoes[index]:
                yield chunk(run.shape.delta(index, Delta(run.echoes[index], (), None), logprobs=False))
        async for index, delta in run.deltas():
            if delta.text or delta.entries or delta.finish is not None:
                yield chunk(run.shape.delta(index, delta, logprobs=run.job.logprobs))
        if run.job.include_usage:
            used = usage(run.job.prompt_tokens, run.flight.new_tokens)
            yield _event({**run.frame.of(run.shape.chunk, []), "usage": used})
    except BudwoodError as error:
        # The status line has gone out; the client's library raises on an event that has an error in it.
        fault = error if isinstance(error, ApiError) else engine_fault(error)
        run.context.finished(_exchange(run.context, run.live, run.asked, "failed"))
        yield _event(error_object(fault))
    yield b"data: [DONE]\n\n"


def _event(value: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n\n"
