"""From a checked HTTP request to requests for the engine."""

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from budwood.errors import BudwoodError
from budwood.serve.api.context import Context
from budwood.serve.api.faults import bad_request, from_budwood
from budwood.serve.api.schema import ChatRequest, CompletionRequest, GenerationRequest
from budwood.serve.backend import ParameterError
from budwood.serve.directory import Live
from budwood.serve.texts import LONG_CHARACTERS, Texts
from budwood.tool_calls import strings

if TYPE_CHECKING:
    from budwood.engine.generate import Request

T = TypeVar("T")
TURN_CHARACTERS = 100
SEED_STEP = 0x9E3779B97F4A7C15
"""Distance of the seeds of a request's choices: choice 0 has the seed itself, and no two neighbours' seeds meet."""


@dataclass(frozen=True)
class Job:
    """What the engine is to do for one HTTP request, and how the answer is wanted."""

    requests: tuple["Request", ...]
    prompt_tokens: int
    stops: tuple[str, ...]
    streamed: bool
    include_usage: bool
    logprobs: bool
    echoes: tuple[str, ...] = ()
    """For each choice the text that comes before it; empty: nothing does."""

    @property
    def most_tokens(self) -> int:
        """How many tokens it may come to, prompts and answers."""
        return self.prompt_tokens + sum(request.max_new_tokens for request in self.requests)


async def chat_job(context: Context, live: Live, request: ChatRequest) -> Job:
    """Encode a conversation and settle what it leaves open.

    Raises:
        ApiError: 400 with the field that cannot be.
    """
    messages = [message.plain for message in request.messages]
    if live.system and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": live.system}, *messages]
    # A turn costs more than its characters: the template renders every beginning of the conversation.
    characters = sum(map(len, strings([messages, request.tools]))) + TURN_CHARACTERS * len(messages)
    prompt = await _encode(live, characters, lambda texts: texts.encode_chat(messages, request.tools), "messages")
    schema = request.schema_text
    if schema is not None:
        await _aside(live, lambda: live.worker.compile_schema(schema), "response_format.json_schema.schema")
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    return _job(context, live, request, [prompt], request.wanted_tokens, logprobs, schema, "messages")


async def completion_job(context: Context, live: Live, request: CompletionRequest) -> Job:
    """Encode the prompts of a completion request and settle what it leaves open.

    Raises:
        ApiError: 400 with the field that cannot be.
    """
    prompts = []
    for prompt in request.prompts:
        if isinstance(prompt, str):
            prompts.append(await _encode(live, len(prompt), functools.partial(Texts.encode_text, text=prompt), "prompt"))
        else:
            prompts.append(tuple(prompt))
    job = _job(context, live, request, prompts, request.wanted_tokens, request.logprobs, None, "prompt")
    if not request.echo:
        return job
    said = [prompt if isinstance(prompt, str) else live.texts.decode(prompt) for prompt in request.prompts]
    return replace(job, echoes=tuple(text for text in said for _ in range(request.n or 1)))


async def _encode(live: Live, characters: int, encode: Callable[[Texts], T], param: str) -> T:
    if characters >= LONG_CHARACTERS:
        return await _aside(live, lambda: encode(live.texts.aside), param)
    try:
        return encode(live.texts)
    except BudwoodError as error:
        raise from_budwood(error, param=param) from None


async def _aside(live: Live, function: Callable[[], T], param: str) -> T:
    try:
        return await asyncio.get_running_loop().run_in_executor(live.texts.executor, function)
    except BudwoodError as error:
        raise from_budwood(error, param=param) from None


def _job(
    context: Context,
    live: Live,
    request: GenerationRequest,
    prompts: list[tuple[int, ...]],
    wanted: tuple[str, int] | None,
    logprobs: int | None,
    schema: str | None,
    prompt_param: str,
) -> Job:
    from budwood.engine.generate import Request

    outside = [token for token in request.biases if token >= live.texts.vocab]
    if outside:
        raise bad_request(f"logit_bias names token {outside[0]:,}; ids are below {live.texts.vocab:,}.", "logit_bias")
    temperature = live.decoding.temperature if request.temperature is None else request.temperature
    seed = request.seed if request.seed is not None else context.draw_seed() if temperature > 0 else 0
    requests: list[Request] = []
    for prompt in prompts:
        limit = _new_tokens(context, live, len(prompt), wanted, prompt_param)
        for _ in range(request.n or 1):
            engine_request = Request(
                prompt=prompt,
                adapter=live.slot,
                max_new_tokens=limit,
                temperature=temperature,
                top_p=1.0 if request.top_p is None else request.top_p,
                top_k=request.top_k or 0,
                min_p=request.min_p or 0.0,
                presence_penalty=request.presence_penalty or 0.0,
                frequency_penalty=request.frequency_penalty or 0.0,
                repetition_penalty=1.0 if request.repetition_penalty is None else request.repetition_penalty,
                logit_bias=request.biases,
                seed=seed + len(requests) * SEED_STEP,
                stop_ids=live.decoding.stop_ids,
                logprobs=logprobs,
                json_schema=schema,
                prefix_key=live.digest,
            )
            try:
                live.worker.check(engine_request)
            except ParameterError as error:
                raise from_budwood(error, param=error.param) from None
            except BudwoodError as error:
                raise from_budwood(error, param=prompt_param) from None
            requests.append(engine_request)
    return Job(
        requests=tuple(requests),
        prompt_tokens=sum(len(prompt) for prompt in prompts),
        stops=request.stops,
        streamed=bool(request.stream),
        include_usage=request.include_usage,
        logprobs=logprobs is not None,
    )


def _new_tokens(context: Context, live: Live, prompt: int, wanted: tuple[str, int] | None, prompt_param: str) -> int:
    room = live.worker.context - prompt
    if room < 1:
        raise bad_request(
            f"The prompt has {prompt:,} tokens; the context holds {live.worker.context:,}, answer included.",
            prompt_param,
            code="context_length_exceeded",
            mend="Shorten it.",
        )
    ceiling = context.settings.max_new_tokens
    if wanted is None:
        return min(live.decoding.max_new_tokens, ceiling, room)
    param, number = wanted
    if number > ceiling:
        raise bad_request(f"{param} = {number:,} is above this server's limit of {ceiling:,}.", param)
    if number > room:
        raise bad_request(
            f"{param} = {number:,}, but after {prompt:,} tokens of prompt there is room for {room:,}.",
            param,
            code="context_length_exceeded",
        )
    return number
