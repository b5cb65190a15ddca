"""Default learning rates, and where they are from."""

from typing import NamedTuple

from budwood.plan.memory import Method
from budwood.plan.shape import BaseShape

SMALL = 50_000_000
"""Parameters below which a base is small."""
SMALL_LORA, LARGE_LORA = 4e-3, 2e-4
FULL_SHARE = 0.1


class Rate(NamedTuple):
    """A peak learning rate and its source."""

    value: float
    source: str


def default_rate(method: Method, shape: BaseShape) -> Rate:
    """Choose a learning rate by method and size.

    Small bases get our own default, which docs/log.md derives: tables begin at a billion parameters. Large bases:
    2e-4 · sqrt(2000 / hidden), which runs through QLoRA's 2e-4 up to 13B and 1e-4 above (its scripts). Full fine-tuning: a
    tenth (LoRA Without Regret fits 9.8).
    """
    if shape.parameters < SMALL:
        where = "measured on seedling, no table covers such bases"
        value, source = SMALL_LORA, f"{SMALL_LORA:g} below {SMALL // 1_000_000} M parameters ({where})"
    else:
        value = min(SMALL_LORA, LARGE_LORA * (2000 / shape.hidden) ** 0.5)
        source = f"2e-4 · sqrt(2000 / hidden {shape.hidden:,}) (through QLoRA's 2e-4 and 1e-4)"
    if method != "full":
        return Rate(value, source)
    return Rate(value * FULL_SHARE, f"a tenth of LoRA's (LoRA Without Regret: 9.8): {source}")
