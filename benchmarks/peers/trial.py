"""What one process is asked to do, and what it found: handed over as JSON."""

import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Side = Literal["budwood", "trl as shipped", "trl by length", "trl larger batch", "trl packed", "products alone"]
CHECKED = 8
"""Rows whose loss both sides state before training: the same rows, the same adapter that changes nothing yet."""


@dataclass(frozen=True)
class Trial:
    """One side's run.

    Args:
        side: who trains.
        shape: of the base.
        method: "lora" or "qlora".
        tokens: of a step, about.
        steps: that are timed.
        warm: steps before them.
        threads: of the process.
        checkpointing: layers keep their inputs alone.
        device: "cpu" or "cuda".
    """

    side: Side
    shape: str
    method: Literal["lora", "qlora"]
    tokens: int
    steps: int
    warm: int
    threads: int
    checkpointing: bool
    device: Literal["cpu", "cuda"] = "cpu"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Found:
    """What came of it.

    Args:
        seconds: of each timed step.
        tokens: of each, padding not counted.
        supervised: of each.
        peak_bytes: of the process, all its libraries included; on a GPU what torch took of its memory.
        first_loss: nats a supervised token on the first rows, before training.
        matrix_rate: operations a second of one large bfloat16 product: with the products alone on a GPU, else 0.
    """

    seconds: list[float]
    tokens: list[int]
    supervised: list[int]
    peak_bytes: int
    first_loss: float
    matrix_rate: float = 0.0

    @property
    def tokens_per_s(self) -> float:
        return statistics.median(count / time for count, time in zip(self.tokens, self.seconds, strict=True))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def peak_bytes(device: str = "cpu") -> int:
    """Largest resident memory that this process ever had; or what torch ever took of the GPU's."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_reserved())
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM: this benchmark needs Linux")


def finished(device: str) -> None:
    """Wait until a GPU has done what it was given, so that a clock can be read."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
