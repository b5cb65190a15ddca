"""The plain way to the same answers: one request, no cache, the whole text through the model for every token.

Slow on purpose. Tests hold the generator to it; `score` uses the same pass to rate a given continuation.
"""

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from budwood.engine.base import LoadedBase, hidden_states, logits
from budwood.engine.generate.request import GenerationError, Request
from budwood.engine.generate.sampling import uniform
from budwood.engine.lora import AdapterBank
from budwood.engine.packed import Encoded, pack


def reference_generate(
    base: LoadedBase,
    bank: AdapterBank | None,
    adapter: int,
    prompt: Sequence[int],
    max_new_tokens: int,
    *,
    stop_ids: Sequence[int] = (),
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Continue a prompt greedily.

    Args:
        base: the loaded base.
        bank: attached to it, or None.
        adapter: slot in the bank; -1 for the base alone.
        prompt: token ids.
        max_new_tokens: most tokens to make.
        stop_ids: tokens that end the answer.

    Returns:
        The new tokens, a closing stop id included; and for each how far its logit was above the next best: where that is
        within rounding (about 1e-4 in float32), another order of the same sums may choose the other token.
    """
    text = list(prompt)
    gaps: list[float] = []
    while len(gaps) < max_new_tokens:
        best = _logits(base, bank, adapter, text, [len(text) - 1])[0].topk(2)
        gaps.append(float(best.values[0] - best.values[1]))
        text.append(int(best.indices[0]))
        if text[-1] in stop_ids:
            break
    return tuple(text[len(prompt) :]), tuple(gaps)


def score(
    base: LoadedBase, bank: AdapterBank | None, adapter: int, prompt: Sequence[int], continuation: Sequence[int]
) -> tuple[float, ...]:
    """Log-probability that the model gives to each token of a continuation, in one pass; logits only where they are read.

    Raises:
        GenerationError: the prompt is empty, or both together are longer than the context.
    """
    if not prompt:
        raise GenerationError("The prompt is empty.", where="score", mend="Give at least one token.")
    if len(prompt) + len(continuation) > base.identity.context:
        raise GenerationError(
            f"Prompt and continuation have {len(prompt) + len(continuation):,} tokens; the context holds "
            f"{base.identity.context:,}.",
            where="score",
            mend="Shorten them.",
        )
    if not continuation:
        return ()
    first = len(prompt) - 1
    table = _logits(base, bank, adapter, [*prompt, *continuation[:-1]], range(first, first + len(continuation)))
    targets = torch.tensor(list(continuation), device=table.device)
    return tuple(table.log_softmax(-1).gather(1, targets[:, None]).flatten().tolist())


def reference_shape(logits: Sequence[float], request: Request, made: Sequence[int]) -> list[float]:
    """Give one position's logits as a request wants them changed: what `shape_logits` does, a token at a time."""
    shaped = []
    counts = Counter(made)
    for token, logit in enumerate(logits):
        value = logit
        if token in counts or token in request.prompt:
            value = value / request.repetition_penalty if value > 0 else value * request.repetition_penalty
        if token in counts:
            value -= request.frequency_penalty * counts[token] + request.presence_penalty
        shaped.append(value + request.logit_bias.get(token, 0.0))
    return shaped


def reference_probabilities(logits: Sequence[float], request: Request) -> dict[int, float]:
    """Give the tokens that may be drawn, likeliest first, with their probabilities: temperature, top_k, min_p, top_p."""
    highest = max(logits)
    weights = {token: math.exp((logit - highest) / request.temperature) for token, logit in enumerate(logits)}
    ordered = sorted(weights, key=lambda token: (-weights[token], token))
    kept = ordered[: request.top_k] if request.top_k else ordered
    kept = [token for token in kept if weights[token] >= request.min_p * weights[ordered[0]]]
    total, before, drawn = sum(weights[token] for token in kept), 0.0, []
    for token in kept:
        if before < request.top_p * total:
            drawn.append(token)
        before += weights[token]
    share = sum(weights[token] for token in drawn)
    return {token: weights[token] / share for token in drawn}


def reference_choice(logits: Sequence[float], request: Request, made: Sequence[int]) -> int:
    """Take the token that a request gets at one position: greedy, or by its own random number."""
    shaped = reference_shape(logits, request, made)
    if request.temperature == 0:
        return max(range(len(shaped)), key=lambda token: (shaped[token], -token))
    probabilities = reference_probabilities(shaped, request)
    cut = request.top_p < 1 or request.top_k > 0 or request.min_p > 0
    number, reached = uniform(request.seed, len(made)), 0.0
    for token in probabilities if cut else sorted(probabilities):
        reached += probabilities[token]
        if number < reached:
            return token
    raise AssertionError("probabilities add up to 1")


def _logits(base: LoadedBase, bank: AdapterBank | None, adapter: int, ids: Sequence[int], rows: Sequence[int]) -> Tensor:
    batch = pack([Encoded(ids=tuple(ids), supervised=(False,) * len(ids))], base.device)
    tokens = torch.tensor(list(rows), device=base.device)
    with torch.inference_mode(), nullcontext() if bank is None else bank.use(adapter if adapter >= 0 else None):
        hidden = hidden_states(base.model, batch)
        return logits(base.model, hidden[tokens], tokens).float()
