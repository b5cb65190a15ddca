"""Points of the curves that a run keeps."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Point:
    """One step.

    Args:
        step: from 1; 0 is before the first one, with the validation loss of what training started from.
        loss: mean over the step's supervised tokens, nats, before its update; None at step 0.
        validation_loss: mean over all supervised tokens of the validation rows, after the update; None where not measured.
        learning_rate: of this update.
        gradient_norm: before clipping.
        tokens: seen so far, supervised or not.
    """

    step: int
    loss: float | None
    validation_loss: float | None
    learning_rate: float
    gradient_norm: float | None
    tokens: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
