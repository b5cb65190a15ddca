"""The golden probes on one vLLM server, in both ways in which it computes.

Scoring reads a text as prompts are read, up to each token that it asks about; answers are made token by token, by other
kernels, which have been wrong where the first were right. So each probe is scored and also spoken.
"""

import queue
from typing import TYPE_CHECKING

from budwood.errors import BudwoodError, ServeError
from budwood.serve.backend import Engine
from budwood.serve.probe import PROBE_TIMEOUT_S, check_probes

if TYPE_CHECKING:
    from budwood.engine.generate import Token
    from budwood.engine.probes import Probe, ProbeSet


def prove(engine: Engine, slot: int, probes: "ProbeSet", *, alone: bool, precision: str, where: str) -> float:
    """Replay all probes on an engine.

    Args:
        engine: one server.
        slot: the release's.
        probes: its own.
        alone: it has no adapter, so there is no counter-check.
        precision: in which the server computes.
        where: which release, for messages.

    Returns:
        The largest difference of a log-probability.

    Raises:
        ServeError: a difference is above the tolerance, or the base alone passes too.
        AdapterError: in this precision nothing tells this release from a wrong one.
    """
    worst = check_probes(engine, -1 if alone else slot, probes, precision=precision, where=where)
    tolerance = probes.tolerances.get(precision, probes.tolerance)
    for number, probe in enumerate(probes.probes, 1):
        gap = _speak(engine, -1 if alone else slot, probe, tolerance)
        if not gap <= tolerance:
            raise ServeError(
                f"The golden probes failed at probe {number} when it was spoken, token by token: difference {gap:.2g}, allowed "
                f"{tolerance:.2g}. Read as a prompt it was right.",
                where=where,
                mend="This vLLM server decodes wrongly: try another version, or --enforce-eager in [serve] vllm_arguments.",
            )
        worst = max(worst, gap)
    return worst


def _speak(engine: Engine, slot: int, probe: "Probe", tolerance: float) -> float:
    """Largest difference of a log-probability while a probe's answer is made greedily, up to where it rightly parts."""
    from budwood.engine.generate import Request

    request = Request(probe.prompt_ids, adapter=slot, max_new_tokens=len(probe.token_ids), logprobs=0)
    worst = 0.0
    for expected, logprob, token in zip(probe.token_ids, probe.logprobs, _tokens(engine, request), strict=True):
        gap = float("inf") if token.logprob is None else abs(token.logprob - logprob)
        if token.token != expected:
            # Two tokens within the tolerance of each other: either may be the likeliest, and what follows is another answer.
            return worst if gap <= 2 * tolerance else gap
        worst = max(worst, gap)
    return worst


def _tokens(engine: Engine, request: object) -> "list[Token]":
    inbox: queue.SimpleQueue[Token | BudwoodError] = queue.SimpleQueue()
    ticket = engine.submit(request, inbox.put, urgent=True)  # type: ignore[arg-type]
    tokens: list[Token] = []
    while not tokens or tokens[-1].finish is None:
        try:
            item = inbox.get(timeout=PROBE_TIMEOUT_S)
        except queue.Empty:
            engine.cancel(ticket)
            raise ServeError("The vLLM server gave no token for a golden probe.", mend="Restart it.") from None
        if isinstance(item, BudwoodError):
            raise item
        tokens.append(item)
    return tokens
