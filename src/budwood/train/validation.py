"""Validation loss during a training: supervised positions only, nothing kept but the sum."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from budwood.engine.packed import pack, plan_passes
from budwood.events import Event, Reporter
from budwood.train.trainable import Trainable

if TYPE_CHECKING:
    from budwood.engine.packed import Encoded


def validation_loss(
    trainable: Trainable, rows: "Sequence[Encoded]", *, tokens_per_pass: int, device: torch.device, report: Reporter
) -> float:
    """Give the mean cross-entropy over all supervised tokens of `rows`, in nats. Nothing is dropped, nothing changes."""
    passes = plan_passes([len(row.ids) for row in rows], tokens_per_pass, seed=0, epoch=0)
    total, count = 0.0, 0
    with torch.no_grad():
        for number, places in enumerate(passes):
            batch = pack([rows[place] for place in places], device)
            total += float(trainable.loss_sum(batch, dropout=None))
            count += len(batch.targets)
            report(Event("train", "Validating", done=number + 1, total=len(passes), unit="passes"))
    return total / count
