"""What a long loop tells about itself, and who listens.

A stage calls `report(Event(...))` and knows nothing of terminals; the command line draws a bar or prints plain lines, a test
collects them in a list. Events carry only figures and words that may be shown: no prompt text, no secrets.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Event:
    """One sign of life from a stage.

    Args:
        stage: "plan", "prepare", "train", "evaluate", "release", "serve", "data" or "store".
        message: a few words, sentence case without a full stop, e.g. "Training lora" or "3,912 rows kept".
        done: units finished so far; None for a plain message.
        total: units in all; None when unknown.
        unit: what is counted: "rows", "steps", "cases".
        fields: figures to show beside the bar, e.g. {"loss": 1.31, "tokens/s": 2800.0}.
    """

    stage: str
    message: str
    done: int | None = None
    total: int | None = None
    unit: str = ""
    fields: Mapping[str, float | str] = field(default_factory=dict)


Reporter = Callable[[Event], None]


def silent(event: Event) -> None:
    """Drop the event: the reporter for callers that do not want to watch."""
