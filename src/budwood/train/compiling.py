"""[train] compile: whether layers are compiled here, what is said about it, and what a compiler's failure becomes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from budwood.engine.compiled import compiler_errors, told
from budwood.errors import TrainingError
from budwood.events import Event, Reporter
from budwood.recipe.train import Compile
from budwood.train.trainable import FUSED, Trainable


def compiles(setting: Compile, device: torch.device) -> bool:
    """Whether to compile: "auto" does so on a GPU alone, for on a CPU it does not pay (docs/performance.md)."""
    return setting == "on" or (setting == "auto" and device.type == "cuda")


def settle(setting: Compile, trained: Trainable, report: Reporter) -> None:
    """Say aloud that a compiler failed, where the recipe left it to us; refuse where it did not.

    Raises:
        TrainingError: the recipe says "on", and the compiler failed.
    """
    fault = trained.uncompiled
    if fault is None:
        if setting == "on" and trained.way.startswith(FUSED):
            report(Event("train", "Layers are single nodes in C already: there is nothing to compile"))
        return
    if setting == "on":
        raise TrainingError(
            f"The layers cannot be compiled here: {fault}.",
            where="[train] compile",
            mend='Mend or install the compiler, or set compile = "auto": it goes on without.',
        )
    report(Event("train", f"Layers are not compiled, which is slower: {fault}"))


@contextmanager
def compiler_faults() -> Iterator[None]:
    """Turn what a compiler raises in the middle of a training into a sentence.

    Raises:
        TrainingError: it failed; checkpoints stay.
    """
    try:
        yield
    except compiler_errors() as error:
        raise TrainingError(
            f"The compiler failed in the middle of training: {told(error)}.",
            where="[train] compile",
            mend='Run the same command again: training goes on from its checkpoint. If it fails again, set compile = "off" and '
            "another seed: a training begun with compiled layers cannot end without.",
        ) from error
