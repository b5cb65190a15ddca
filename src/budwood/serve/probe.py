"""Replay of a release's golden probes, on this very server.

They go through the same cache, bank and batching that answer requests, before the release may go live. A wrong base, a wrong
scale or an adapter that is silently ignored lies outside the tolerance.
"""

import queue
from collections.abc import Sequence
from typing import TYPE_CHECKING

from budwood.errors import BudwoodError, ServeError
from budwood.serve.backend import Engine

if TYPE_CHECKING:
    from budwood.engine.generate import Token
    from budwood.engine.probes import ProbeSet

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

    result = replay(probes, lambda prompt, tokens: _score(worker, slot, prompt, tokens), precision=precision)
    if not result.ok:
        raise ServeError(
            f"The golden probes {result.detail}.",
            where=where,
            mend="This server does not compute what was trained: check base, precision and quantisation.",
        )
    if slot >= 0:
        without = replay(probes, lambda prompt, tokens: _score(worker, -1, prompt, tokens), precision=precision)
        if without.ok:
            raise ServeError(
                f"The base alone {without.detail}: the adapter does nothing to the golden probes.",
                where=where,
                mend="Make the release again with probes that tell adapter and base apart.",
            )
    return result.worst


def _score(worker: Engine, slot: int, prompt: Sequence[int], tokens: Sequence[int]) -> list[float]:
    """Log-probabilities of given tokens, made on the serving path: they are fed in the place of the chosen ones."""
    from budwood.engine.generate import Request

    inbox: queue.SimpleQueue[Token | BudwoodError] = queue.SimpleQueue()
    forced = tuple(tokens)
    request = Request(tuple(prompt), adapter=slot, max_new_tokens=len(forced), logprobs=0, forced=forced)
    # Ahead of the queue: a promotion, and above all a rollback, must not wait for a crowd.
    ticket = worker.submit(request, inbox.put, urgent=True)
    logprobs: list[float] = []
    try:
        while len(logprobs) < len(forced):
            token = inbox.get(timeout=PROBE_TIMEOUT_S)
            if isinstance(token, BudwoodError):
                raise token
            if token.logprob is None:
                break
            logprobs.append(token.logprob)
    except queue.Empty:
        worker.cancel(ticket)
        raise ServeError("The engine gave no token for a golden probe.", mend="Restart the server.") from None
    return logprobs
