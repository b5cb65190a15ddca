"""The loss of each row by itself, of rows that share a pass: what scores and comparisons of rows are made from."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from budwood.engine.base import hidden_states, logits
from budwood.engine.loss import WORKSPACE
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
        losses = _token_losses(model, batch).double().cpu().numpy()
    ends = np.cumsum([sum(row.supervised[1:]) for row in rows])
    return [float(part.sum()) for part in np.split(losses, ends[:-1])]


def _token_losses(model: nn.Module, batch: PackedBatch) -> Tensor:
    """(N,) losses at the batch's supervised positions, float32 (float64 for float64 models)."""
    hidden = hidden_states(model, batch, only=batch.supervised)
    if not len(hidden):
        return hidden.new_zeros(0, dtype=torch.float32)
    wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
    found = []
    chunk = max(1, WORKSPACE // int(model.config.vocab_size))  # type: ignore[union-attr, arg-type]  # nn.Module types every attribute as Tensor | Module
    for start in range(0, len(hidden), chunk):
        piece = slice(start, start + chunk)
        scores = logits(model, hidden[piece], batch.supervised[piece]).to(wide)
        wanted = batch.targets[piece, None]
        found.append(torch.logsumexp(scores, -1) - scores.gather(1, wanted)[:, 0])
    return torch.cat(found)
