"""What happens at which step: learning rate, mixture, row length. Step counts only, never the clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tools.seedling.corpus import MAIN, OPENING

OPENING_STEPS = 300


@dataclass(frozen=True, slots=True)
class Schedule:
    """Warm-up, stable, decay. `decay_from` is None while the stable phase runs on."""

    peak: float = 4e-3
    warmup: int = 60
    decay_from: int | None = None
    decay_steps: int = 0
    tokens: int = 8192  # a step

    def rate(self, step: int) -> float:
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        if self.decay_from is None or step < self.decay_from:
            return self.peak
        return self.peak * max(0.0, 1 - (step - self.decay_from + 1) / (self.decay_steps + 1))

    def mixture(self, step: int) -> Mapping[str, int]:
        return OPENING if step < OPENING_STEPS else MAIN

    def length(self, step: int) -> int:
        """Short rows while the network learns words, long ones at the end, so that late positions are trained too."""
        gone = -1.0 if self.decay_from is None else (step - self.decay_from) / max(1, self.decay_steps)
        return 256 if gone < 0.4 else 512 if gone < 0.8 else 1024
