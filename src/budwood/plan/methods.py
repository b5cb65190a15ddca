"""Which method: the fastest that fits and can hold the data, with the reasons in two lines."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from budwood.plan.memory import Bounds, Checkpointing, Method, Term

HEADROOM = 0.85
"""A method fits when the expected peak leaves 15 % of the memory free."""


@dataclass(frozen=True)
class Option:
    """One method, predicted.

    Args:
        method: which.
        fits: leaves the headroom free.
        peak_bytes: of the whole training.
        terms: that it is made of.
        seconds: expected; None before the rows are known.
        trainable: parameters that are trained.
        checkpointing: what the layers keep: the recipe's wish, or for "auto" everything, unless only their inputs fit.
    """

    method: Method
    fits: bool
    peak_bytes: Bounds
    terms: tuple[Term, ...]
    seconds: float | None
    trainable: int
    checkpointing: Checkpointing = "none"

    def as_dict(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "fits": self.fits,
            "peak_bytes": self.peak_bytes._asdict(),
            "terms": [term.as_dict() for term in self.terms],
            "seconds": self.seconds,
            "trainable": self.trainable,
            "checkpointing": self.checkpointing,
        }


def fits(peak: Bounds, memory_bytes: int) -> bool:
    return peak.expected <= HEADROOM * memory_bytes


def decide(
    wanted: Literal["auto", "lora", "qlora", "full"],
    options: Mapping[Method, Option],
    *,
    memory_bytes: int,
    capacity_exceeded: bool,
) -> tuple[Method, tuple[str, str]]:
    """Choose a method.

    Args:
        wanted: from the recipe; anything but "auto" is taken.
        options: all three, predicted.
        memory_bytes: of the device.
        capacity_exceeded: the data holds more than an adapter of the largest sensible rank can.

    Returns:
        The method, and why in two lines: what was chosen, and what it was measured against.
    """
    memory = memory_bytes / 1e9
    sizes = ", ".join(f"{option.method} {option.peak_bytes.expected / 1e9:.2f} GB" for option in options.values())
    against = f"Expected peaks: {sizes}, of {memory:.1f} GB; 15 % of it shall stay free."
    if wanted != "auto":
        note = "" if options[wanted].fits else " It is not expected to fit."
        return wanted, (f"Method {wanted}, as the recipe says.{note}{_kept(options[wanted])}", against)
    method, why = _choose(options, capacity_exceeded)
    return method, (f"{why}{_kept(options[method])}", against)


def _choose(options: Mapping[Method, Option], capacity_exceeded: bool) -> tuple[Method, str]:
    if capacity_exceeded and options["full"].fits:
        return "full", "Full fine-tuning: the data holds more than an adapter can, and all weights fit."
    if options["lora"].fits:
        return "lora", "LoRA: the base fits unquantised, so it is faster than QLoRA and merges exactly."
    if options["qlora"].fits:
        return "qlora", "QLoRA: the base fits only in 4 bits; every weight is expanded twice a pass."
    return "qlora", "QLoRA: nothing is expected to fit; this needs least. Lower tokens_per_pass or take a smaller base."


def _kept(option: Option) -> str:
    if option.checkpointing == "none":
        return ""
    return ' Layers keep their inputs alone and are computed twice (checkpointing = "layer").'
