"""The plain way to the same answers: one request, no cache, the whole text through the model for every token.

Slow on purpose. Tests hold the generator to it; `score` uses the same pass to rate a given continuation.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from budwood.engine.base import LoadedBase, hidden_states, logits
from budwood.engine.generate.request import GenerationError
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


def _logits(base: LoadedBase, bank: AdapterBank | None, adapter: int, ids: Sequence[int], rows: Sequence[int]) -> Tensor:
    batch = pack([Encoded(ids=tuple(ids), supervised=(False,) * len(ids))], base.device)
    tokens = torch.tensor(list(rows), device=base.device)
    with torch.inference_mode(), nullcontext() if bank is None else bank.use(adapter if adapter >= 0 else None):
        hidden = hidden_states(base.model, batch)
        return logits(base.model, hidden[tokens], tokens).float()
