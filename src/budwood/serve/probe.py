"""Replay of a release's golden probes, on this very server.

They go through the same cache, bank and batching that answer requests, before the release may go live. A wrong base, a wrong
scale or an adapter that is silently ignored lies outside the tolerance.
"""

import queue
from collections.abc import Sequence
from typing import TYPE_CHECKING

from budwood.errors import BudwoodError, ServeError
from budwood.serve.backend import Engine, Ticket

if TYPE_CHECKING:
    from budwood.engine.generate import Token
    from budwood.engine.probes import ProbeSet

    Inbox = queue.SimpleQueue[Token | BudwoodError]

_Case = tuple[int, tuple[int, ...], tuple[int, ...]]
PROBE_TIMEOUT_S = 600.0
"""A probe waits for its turn beside live requests; this long means that the engine is stuck."""


def check_probes(worker: Engine, slot: int, probes: "ProbeSet", *, precision: str, where: str) -> float:
    """Replay all probes with the adapter in `slot`, and, if there is one, with the base alone as a counter-check.

    Args:
        worker: of the engine that will answer.
        slot: the adapter's; -1: the base alone.
        probes: of the release.
        precision: in which this engine computes; the tolerance is that precision's own.
        where: which release, for messages.

    Returns:
        The largest difference of a log-probability.

    Raises:
        ServeError: a difference is above the tolerance; or the base alone passes too, so that the probes prove nothing.
        AdapterError: in this precision nothing tells this release from a wrong one.
    """
    from budwood.engine.probes import replay

    slots = (slot, -1) if slot >= 0 else (slot,)
    found = _score_all(worker, slots, probes)
    result = replay(probes, lambda prompt, tokens: found[slot, tuple(prompt), tuple(tokens)], precision=precision)
    if not result.ok:
        raise ServeError(
            f"The golden probes {result.detail}.",
            where=where,
            mend="This server does not compute what was trained: check base, precision and quantisation.",
        )
    if slot >= 0:
        without = replay(probes, lambda prompt, tokens: found[-1, tuple(prompt), tuple(tokens)], precision=precision)
        if without.ok:
            raise ServeError(
                f"The base alone {without.detail}: the adapter does nothing to the golden probes.",
                where=where,
                mend="Make the release again with probes that tell adapter and base apart.",
            )
    return result.worst


def _score_all(worker: Engine, slots: Sequence[int], probes: "ProbeSet") -> dict[_Case, list[float]]:
    """Score every probe with every slot, all at once: a step serves them together, and live requests wait for few."""
    cases = [(slot, tuple(probe.prompt_ids), tuple(probe.token_ids)) for slot in slots for probe in probes.probes]
    started = [(case, *_start(worker, *case)) for case in dict.fromkeys(cases)]
    try:
        return {case: _finish(inbox, len(case[2])) for case, inbox, _ in started}
    finally:
        for _, _, ticket in started:
            worker.cancel(ticket)


def _start(worker: Engine, slot: int, prompt: tuple[int, ...], tokens: tuple[int, ...]) -> "tuple[Inbox, Ticket]":
    """Have the log-probabilities of given tokens made on the serving path: they are fed in the place of the chosen ones."""
    from budwood.engine.generate import Request

    inbox: Inbox = queue.SimpleQueue()
    request = Request(prompt, adapter=slot, max_new_tokens=len(tokens), logprobs=0, forced=tokens)
    # Ahead of the queue: a promotion, and above all a rollback, must not wait for a crowd.
    return inbox, worker.submit(request, inbox.put, urgent=True)


def _finish(inbox: "Inbox", count: int) -> list[float]:
    logprobs: list[float] = []
    try:
        while len(logprobs) < count:
            token = inbox.get(timeout=PROBE_TIMEOUT_S)
            if isinstance(token, BudwoodError):
                raise token
            if token.logprob is None:
                break
            logprobs.append(token.logprob)
    except queue.Empty:
        raise ServeError("The engine gave no token for a golden probe.", mend="Restart the server.") from None
    return logprobs
