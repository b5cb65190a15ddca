"""Budwood's side: `train.loop.fit` itself, timed from the outside by the steps that it reports."""

import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from peers.shapes import Row
from peers.trial import CHECKED, Found, Trial, peak_bytes

if TYPE_CHECKING:
    import torch

    from budwood.train.rows import TrainRow
    from budwood.train.settings import TrainSettings
    from budwood.train.trainable import AdapterTraining


def run(trial: Trial, base: Path, rows: list[Row]) -> Found:
    """Train over all rows; a step's time is from one report to the next."""
    import torch

    from budwood.events import Event, silent
    from budwood.train.checkpoint import Checkpoints
    from budwood.train.determinism import deterministic
    from budwood.train.loop import fit
    from budwood.train.table import table

    settings, device = _settings(trial), torch.device(trial.device)
    made = _rows(rows)
    moments: list[float] = []

    def note(event: Event) -> None:
        if "loss" in event.fields:
            moments.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder, deterministic(trial.threads, device):
        trainable = _trainable(base, settings, device)
        first_loss = _loss(trainable, made[:CHECKED], device)
        fitted = fit(
            trainable,
            table(Path(folder) / "rows", made, silent),
            table(Path(folder) / "none", [], silent),
            settings,
            checkpoints=Checkpoints(Path(folder), silent),
            device=device,
            report=note,
            clock=time.monotonic,
        )
    seen = [point.tokens for point in fitted.curves]
    tokens = [after - before for before, after in pairwise(seen)][trial.warm - 1 :]
    seconds = [after - before for before, after in pairwise(moments)][trial.warm - 1 :]
    share = fitted.supervised / fitted.tokens
    return Found(seconds, tokens, [round(count * share) for count in tokens], peak_bytes(trial.device), first_loss)


def _settings(trial: Trial) -> "TrainSettings":
    from budwood.recipe import TrainSection
    from budwood.train.settings import TrainSettings

    section = TrainSection(
        epochs=1.0,
        tokens_per_step=trial.tokens,
        tokens_per_pass=trial.tokens,
        precision="bfloat16",
        keep="last",
        checkpoint_every=10**6,
    )
    return TrainSettings.of(
        section,
        method=trial.method,
        learning_rate=1e-4,
        seed=0,
        checkpointing="layer" if trial.checkpointing else "none",
    )


def _trainable(folder: Path, settings: "TrainSettings", device: "torch.device") -> "AdapterTraining":
    import torch

    from budwood.engine.base import BaseRef, load_base
    from budwood.engine.lora import LoraConfig, new_adapter, target_paths
    from budwood.train.compiling import compiles
    from budwood.train.trainable import AdapterTraining

    ref = BaseRef(str(folder), folder, None)
    base = load_base(ref, dtype=torch.bfloat16, quantization=settings.quantization, device=device)
    config = LoraConfig(16, 32.0, targets=target_paths(base.model, "all-linear"))
    adapter = new_adapter(base.model, config, seed=0)
    compiled = compiles(settings.compile, device)
    return AdapterTraining(base.model, adapter, checkpointing=settings.checkpointing, compiled=compiled)


def _rows(rows: list[Row]) -> "list[TrainRow]":
    from budwood.engine.packed import Encoded
    from budwood.train.rows import TrainRow

    made = []
    for index, row in enumerate(rows):
        first = len(row.ids) - row.supervised
        encoded = Encoded(tuple(row.ids), tuple(place >= first for place in range(len(row.ids))))
        made.append(TrainRow(encoded, f"row {index}", "rows.jsonl", index + 1, 1.0))
    return made


def _loss(trainable: "AdapterTraining", rows: "list[TrainRow]", device: "torch.device") -> float:
    import torch

    from budwood.engine.packed import pack

    batch = pack([row.encoded for row in rows], device)
    with torch.no_grad():
        return float(trainable.loss_sum(batch, dropout=None)) / len(batch.targets)
