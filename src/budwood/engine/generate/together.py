"""Run a list of requests to the end."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from budwood.engine.generate.generator import Generator
from budwood.engine.generate.request import Answer, GenerationError, Request, Token


@dataclass
class _Open:
    place: int
    tokens: list[Token] = field(default_factory=list)
    first_s: float = 0.0


def generate(
    generator: Generator,
    requests: Sequence[Request],
    *,
    report_progress: Callable[[int, int], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Answer]:
    """Answer all requests, in any number, and return the answers in the order of the requests.

    Args:
        generator: nothing else may be running in it.
        requests: all are checked before any is computed.
        report_progress: called with (answers finished, answers in all) whenever some have finished.
        clock: seconds, for the answers' times.

    Raises:
        GenerationError: a request is impossible, the generator is busy, or a request's logits were not finite (the adapter
            or the base is broken in this precision). No request of this call is left in the generator.
    """
    if generator.active:
        raise GenerationError("The generator is busy with other requests.", mend="Use one generator for each list.")
    began = clock()
    open_by_id: dict[int, _Open] = {}
    answers: list[Answer | None] = [None] * len(requests)
    done = 0
    try:
        for place, request in enumerate(requests):
            open_by_id[generator.submit(request)] = _Open(place)
        while generator.active:
            finished = 0
            tokens = generator.step()
            now = clock() - began
            for token in tokens:
                state = open_by_id[token.request]
                state.first_s = state.first_s if state.tokens else now
                state.tokens.append(token)
                if token.finish is not None:
                    answers[state.place] = _answer(requests[state.place], state, now)
                    finished += 1
            if finished and report_progress is not None:
                report_progress(done + finished, len(requests))
            done += finished
    finally:
        for request_id in open_by_id:
            generator.cancel(request_id)
    return [answer for answer in answers if answer is not None]


def _answer(request: Request, state: _Open, now: float) -> Answer:
    last = state.tokens[-1]
    if last.finish == "failed":
        raise GenerationError(
            f"The logits of token {len(state.tokens)} are not finite, or its grammar allows no token.",
            where=f"request {state.place}, adapter slot {request.adapter}",
            mend="Check the adapter (its loss may have diverged), or generate in float32.",
        )
    assert last.finish is not None
    stop_id = last.token if last.finish == "stop" and last.token in request.stop_ids else None
    kept = state.tokens if stop_id is None else state.tokens[:-1]
    return Answer(
        tokens=tuple(token.token for token in kept),
        logprobs=tuple(token.logprob for token in kept if token.logprob is not None),
        top=tuple(token.top for token in kept) if request.logprobs else (),
        finish=last.finish,
        stop_id=stop_id,
        first_token_s=state.first_s,
        total_s=now,
    )
