"""What a request wants changed in the model's logits before a token is taken: penalties on repetition, and biases.

In this order, as a token's logit l goes through them:

    repetition_penalty p   l / p where l > 0, l · p where not, if the token stands in the prompt or the answer so far
    frequency_penalty f    l - f · (times in the answer so far)
    presence_penalty q     l - q, if the token is in the answer so far
    logit_bias b           l + b

Source: OpenAI's API reference for the last three, arXiv:1909.05858 (section 4.1) for the first. Held to `reference_shape`.
"""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from budwood.engine.generate.request import Request


def shape_logits(logits: Tensor, requests: Sequence[Request], made: Sequence[Sequence[int]]) -> Tensor:
    """Change the rows of the requests that ask for it.

    Args:
        logits: the model's own, (n, V) float32; they stay as they are.
        requests: (n), whose settings count.
        made: of each, the tokens of its answer so far.

    Returns:
        (n, V); `logits` itself if nobody asks.
    """
    asked = [row for row, request in enumerate(requests) if request.shapes_logits]
    if not asked:
        return logits
    shaped = logits.clone()
    for row in asked:
        _shape_row(shaped[row], requests[row], made[row])
    return shaped


def _shape_row(row: Tensor, request: Request, made: Sequence[int]) -> None:
    if request.repetition_penalty != 1.0:
        seen = torch.tensor(sorted({*request.prompt, *made}), device=row.device)
        values = row[seen]
        row[seen] = torch.where(values > 0, values / request.repetition_penalty, values * request.repetition_penalty)
    if made and (request.frequency_penalty or request.presence_penalty):
        counts = Counter(made)
        tokens, times = torch.tensor(list(counts), device=row.device), torch.tensor(list(counts.values()), device=row.device)
        row[tokens] -= request.frequency_penalty * times + request.presence_penalty
    if request.logit_bias:
        tokens = torch.tensor(list(request.logit_bias), device=row.device)
        row[tokens] += torch.tensor(list(request.logit_bias.values()), device=row.device)
