"""Validation loss during a training: supervised positions only, nothing kept but the sum."""

import torch

from budwood.engine.packed import pack, plan_passes
from budwood.events import Event, Reporter
from budwood.train.ranks import Ranks
from budwood.train.rows import Rows
from budwood.train.trainable import Trainable


def validation_loss(
    trainable: Trainable, rows: Rows, *, tokens_per_pass: int, device: torch.device, report: Reporter, ranks: Ranks
) -> float:
    """Give the mean cross-entropy over all supervised tokens of `rows`, in nats. Nothing is dropped, nothing changes."""
    passes = plan_passes(rows.lengths, tokens_per_pass, seed=0, epoch=0)
    total, count = 0.0, 0
    with torch.no_grad():
        for number in ranks.mine(len(passes)):
            batch = pack([rows[place].encoded for place in passes[number]], device, multiple=trainable.multiple)
            total += float(trainable.loss_sum(batch, dropout=None))
            count += len(batch.targets)
            report(Event("train", "Validating", done=number + 1, total=len(passes), unit="passes"))
        for _ in range(ranks.idle(len(passes))):
            trainable.loss_sum(pack([rows[passes[0][0]].encoded], device, multiple=trainable.multiple), dropout=None)
    summed, counted = ranks.total(total, count)
    return summed / counted
