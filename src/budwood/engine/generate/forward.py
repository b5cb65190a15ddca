"""What the generator needs of a model: a packed pass against the cache, logits of chosen tokens, a safe context."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from budwood.engine.base import LoadedBase, logits
from budwood.engine.generate.attend import StepAttention


def step_hidden(model: nn.Module, ids: Tensor, positions: Tensor, attention: StepAttention) -> Tensor:
    """Run the body over a step's tokens: ids (T), positions (T) → (T, d)."""
    body = model.base_model
    assert isinstance(body, nn.Module)
    output = body(input_ids=ids[None], position_ids=positions[None], use_cache=False, kv=attention)
    hidden: Tensor = output.last_hidden_state[0]
    return hidden


def last_logits(model: nn.Module, hidden: Tensor, rows: Sequence[int]) -> Tensor:
    """Logits in float32 of some tokens of a step: (n, V)."""
    tokens = torch.tensor(rows, device=hidden.device)
    return logits(model, hidden[tokens], tokens).float()


def context_limit(base: LoadedBase) -> int:
    """Longest request whose rotary frequencies do not depend on what else is in its batch.

    "longrope" bases switch to other frequencies for every token of a pass once any position passes the original context:
    a neighbour's length would change an answer, and so would the request's own growth against its cached keys. They are
    held to the original context.
    """
    limits = [base.identity.context]
    for table in _rope_tables(getattr(base.model.config, "rope_parameters", None)):
        if table.get("rope_type") == "longrope":
            limits.append(int(table["original_max_position_embeddings"]))
    return min(limits)


def _rope_tables(parameters: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(parameters, Mapping):
        yield parameters
        for value in parameters.values():
            yield from _rope_tables(value)
