"""Checkpoints: all that going on needs, written so that a kill leaves a whole one or none.

A checkpoint is a folder `step-000300` with `tensors.safetensors` (weights, moments, best weights, dropout's generator) and
`state.json` (step, counts, curves, number of threads, digest of the tensors). It is written beside and renamed; the two
newest are kept, so that one that was damaged later does not cost the whole training.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budwood.events import Event, Reporter
from budwood.identity import digest_file
from budwood.new_folder import sync
from budwood.train.disk import writing

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 2
FORMAT = 1
TENSORS, STATE = "tensors.safetensors", "state.json"


@dataclass(frozen=True)
class Saved:
    """A checkpoint as it was read: tensors by name, and `facts` as they were given to `save`."""

    step: int
    tensors: "Mapping[str, Tensor]"
    facts: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one training in its work folder. One process at a time writes here."""

    def __init__(self, folder: Path, report: Reporter) -> None:
        self._folder = folder
        self._report = report
        with writing("The folder of checkpoints", folder, mend="Check its owner and permissions, and the space that is free."):
            folder.mkdir(parents=True, exist_ok=True)
            for scratch in folder.glob(".*.tmp"):
                shutil.rmtree(scratch)

    def save(self, step: int, tensors: "Mapping[str, Tensor]", facts: Mapping[str, Any]) -> None:
        """Write a checkpoint and let go of old ones.

        Raises:
            TrainingError: the disk refuses; earlier checkpoints stay.
        """
        from safetensors.torch import save_file

        scratch = self._folder / f".{os.getpid()}.tmp"
        mend = "Free some space; training goes on from the checkpoint before."
        with writing(f"The checkpoint of step {step:,}", self._folder, scratch=scratch, mend=mend):
            scratch.mkdir()
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, scratch / TENSORS)
            state = {"format": FORMAT, "step": step, "sha256": digest_file(scratch / TENSORS), "facts": dict(facts)}
            (scratch / STATE).write_text(json.dumps(state, allow_nan=False), encoding="utf-8")
            for path in (scratch / TENSORS, scratch / STATE, scratch):
                sync(path)
            final = self._folder / f"step-{step:06d}"
            if final.exists():
                shutil.rmtree(final)
            os.rename(scratch, final)
            sync(self._folder)
        for old in self._all()[KEPT:]:
            shutil.rmtree(old)

    def newest(self) -> Saved | None:
        """Read the newest whole checkpoint; damaged ones are said aloud and passed over."""
        for path in self._all():
            saved = _read(path)
            if saved is not None:
                return saved
            self._report(Event("train", f"Checkpoint {path.name} is damaged, looking for an older one"))
        return None

    def last_step(self) -> int | None:
        """Step of the newest checkpoint, for messages."""
        found = self._all()
        return int(found[0].name.removeprefix("step-")) if found else None

    def _all(self) -> list[Path]:
        """Newest first."""
        found = [path for path in self._folder.glob("step-*") if path.name.removeprefix("step-").isdigit()]
        return sorted(found, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)


def _read(path: Path) -> Saved | None:
    from safetensors.torch import load_file

    try:
        state = json.loads((path / STATE).read_text("utf-8"))
        if state["format"] != FORMAT or digest_file(path / TENSORS) != state["sha256"]:
            return None
        return Saved(int(state["step"]), load_file(path / TENSORS), state["facts"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
