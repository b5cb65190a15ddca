"""Does a selection pay? Trained on all rows, on the chosen ones and on as many at random: who says the validation rows best?

Validation, not test: choices are made on it, and the test split is the gate's alone. Every arm is trained by the same recipe;
one that was trained before is found again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budwood.errors import DataError
from budwood.events import Event
from budwood.identity import Digest, short
from budwood.pipeline.job import Job
from budwood.pipeline.stages import train
from budwood.pipeline.subjects import Standing, result_of

if TYPE_CHECKING:
    from budwood.engine.base import LoadedBase
    from budwood.engine.lora import AdapterBank
    from budwood.engine.packed import Encoded
    from budwood.stats import Interval


@dataclass(frozen=True)
class Arm:
    """One training.

    Args:
        name: "full", "selected" or "random".
        snapshot: that it was trained on.
        rows: train rows.
        run: of the training.
        steps: optimiser steps.
        tokens: supervised tokens that were learnt from, epochs counted.
        loss: on validation, nats per supervised token.
    """

    name: str
    snapshot: Digest
    rows: int
    run: Digest
    steps: int
    tokens: int
    loss: float


@dataclass(frozen=True)
class Difference:
    """Loss of `arm` minus loss of `against`, paired by validation row, groups resampled whole; below 0: `arm` is better."""

    arm: str
    against: str
    delta: "Interval"

    @property
    def verdict(self) -> str:
        """What the interval allows to say."""
        if self.delta.high < 0:
            return f"{self.arm} is better than {self.against}"
        if self.delta.low > 0:
            return f"{self.arm} is worse than {self.against}"
        return f"no difference between {self.arm} and {self.against} can be told"


@dataclass(frozen=True)
class Arms:
    """What came of it; `alpha` is the error of each bound of the intervals."""

    arms: tuple[Arm, ...]
    differences: tuple[Difference, ...]
    validation_rows: int
    alpha: float

    def as_dict(self) -> dict[str, Any]:
        return {
            "arms": [asdict(arm) for arm in self.arms],
            "differences": [asdict(one) | {"verdict": one.verdict} for one in self.differences],
            "validation_rows": self.validation_rows,
            "alpha": self.alpha,
        }


def train_arms(job: Job, snapshots: Mapping[str, Digest]) -> Arms:
    """Train an arm on each snapshot, and compare them on the validation rows.

    Args:
        job: its recipe trains every arm.
        snapshots: name → snapshot; all have the same validation rows. The arm "selected" is compared with each of the others.

    Raises:
        DataError: there are no validation rows.
        TrainingError: as `train`.
    """
    validation = _read_validation(job, next(iter(snapshots.values())))
    runs = {}
    for name, snapshot in snapshots.items():
        job.say("train", f"Arm {name}: snapshot {short(snapshot)}")
        runs[name] = train(job.on(snapshot))
    losses = _losses(job, [result_of(job, run) for run in runs.values()], [one.text for one in validation])
    tokens = sum(one.tokens for one in validation)
    by_arm = dict(zip(runs, losses, strict=True))
    arms = tuple(_arm(job, name, snapshots[name], run, sum(by_arm[name]) / tokens) for name, run in runs.items())
    differences = tuple(
        _difference(job, "selected", other, by_arm, validation) for other in runs if other != "selected" and "selected" in runs
    )
    return Arms(arms, differences, len(validation), job.recipe.gate.alpha)


@dataclass(frozen=True)
class _Row:
    text: "Encoded"
    group: str

    @property
    def tokens(self) -> int:
        return sum(self.text.supervised[1:])


def _read_validation(job: Job, snapshot: Digest) -> list[_Row]:
    rows = []
    with job.store.file(snapshot, "validation.jsonl").open("rb") as lines:
        for line in lines:
            value = json.loads(line)
            rows.append(_Row(job.base.template.encode_row(value["messages"], value.get("tools", ())), value["group"]))
    if not rows:
        raise DataError(
            "There are no validation rows, so nothing can be compared.", where="[prepare] validation", mend="Raise it."
        )
    return rows


def _arm(job: Job, name: str, snapshot: Digest, run: Digest, loss: float) -> Arm:
    body = job.store.manifest(run).body
    rows = int(job.store.manifest(snapshot).body["counts"]["train"])
    return Arm(name, snapshot, rows, run, int(body["steps"]), int(body["supervised_tokens"]), loss)


def _difference(job: Job, arm: str, against: str, losses: Mapping[str, Sequence[float]], rows: Sequence[_Row]) -> Difference:
    """Differences of rows are scaled such that their mean is the difference of the two losses per token."""
    from budwood.stats import paired_bootstrap

    mean = sum(row.tokens for row in rows) / len(rows)
    deltas = [(one - other) / mean for one, other in zip(losses[arm], losses[against], strict=True)]
    groups = [row.group for row in rows]
    gate = job.recipe.gate
    return Difference(
        arm, against, paired_bootstrap(deltas, groups, resamples=gate.resamples, seed=job.recipe.seed, alpha=gate.alpha)
    )


def _losses(job: Job, standings: Sequence[Standing], texts: Sequence["Encoded"]) -> list[list[float]]:
    """Of each result, the summed loss of each row. A base that several stand on is loaded once."""
    from budwood.engine.lora import load_adapter

    loaded: dict[tuple[Path, str, str], tuple[LoadedBase, AdapterBank]] = {}
    found = []
    for number, standing in enumerate(standings):
        subject = standing.subject
        key = (standing.ref.folder, subject.quantization, subject.precision)
        if key not in loaded:
            loaded.clear()
            loaded[key] = _load(standing)
        base, bank = loaded[key]
        slot = -1
        if standing.adapter is not None:
            slot = bank.add(f"arm {number}", load_adapter(standing.adapter, base.model))
        with bank.use(slot):
            found.append(_row_losses(job, base, texts))
    return found


def _load(standing: Standing) -> "tuple[LoadedBase, AdapterBank]":
    import torch

    from budwood.engine.base import load_base
    from budwood.engine.device import best_device
    from budwood.engine.lora import AdapterBank

    subject = standing.subject
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[subject.precision]
    base = load_base(standing.ref, dtype=dtype, quantization=subject.quantization, device=best_device())
    return base, AdapterBank.attach(base.model)


def _row_losses(job: Job, base: "LoadedBase", texts: Sequence["Encoded"]) -> list[float]:
    from budwood.engine.packed import plan_passes
    from budwood.engine.row_losses import row_losses

    losses = [0.0] * len(texts)
    passes = plan_passes([len(text.ids) for text in texts], job.recipe.train.tokens_per_pass, seed=0, epoch=0)
    for number, together in enumerate(passes, start=1):
        for place, loss in zip(together, row_losses(base.model, [texts[i] for i in together], base.device), strict=True):
            losses[place] = loss
        job.report(Event("data", "Comparing on validation", done=number, total=len(passes), unit="passes"))
    return losses
