"""The loss of each row by itself, of rows that share a pass: what scores and comparisons of rows are made from."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from budwood.engine.base import head_weight, hidden_states, logit_softcap
from budwood.engine.lora import head_parts
from budwood.engine.loss import position_losses
from budwood.engine.packed import Encoded, PackedBatch, pack


def row_losses(model: nn.Module, rows: Sequence[Encoded], device: torch.device | str = "cpu") -> list[float]:
    """Give the cross-entropy of each row, summed over its supervised tokens, in nats.

    What the model's bank has in use counts. A row's first token is never a target, so it adds nothing; logits of one piece of
    positions are alive at a time.

    Args:
        model: with packed attention.
        rows: they share one pass.
        device: where the model is.

    Raises:
        BaseError: a row is longer than the base's context.

    Source: held to transformers' own model, one row at a time, by tests/engine/test_row_losses.py.
    """
    batch = pack(rows, device)
    with torch.no_grad():
        losses = _token_losses(model, batch).cpu().numpy()
    ends = np.cumsum([sum(row.supervised[1:]) for row in rows])
    return [float(part.sum()) for part in np.split(losses, ends[:-1])]


def _token_losses(model: nn.Module, batch: PackedBatch) -> Tensor:
    """(N,) float64 losses at the batch's supervised positions."""
    hidden = hidden_states(model, batch, only=batch.supervised)
    head, softcap = head_weight(model).to(hidden.dtype), logit_softcap(model)
    losses = torch.empty(len(hidden), dtype=torch.float64, device=hidden.device)
    for part in head_parts(model, len(hidden), batch.supervised):
        rows = None if part.rows is None else (part.rows.ids, part.rows.values)
        found = position_losses(part.of(hidden), head, part.of(batch.targets), softcap=softcap, rows=rows)
        losses[slice(None) if part.states is None else part.states] = found.double()
    return losses
