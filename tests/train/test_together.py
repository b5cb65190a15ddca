"""Two processes train as one does: the same losses, one result, and a death that ends both."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from budwood.engine.base import BaseRef
from budwood.errors import BudwoodError, TrainingError
from budwood.events import Event, silent
from budwood.identity import Digest
from budwood.recipe import Recipe
from budwood.store import Store
from budwood.train.ranks import Ranks
from budwood.train.run import train
from budwood.train.settings import Method, TrainSettings
from budwood.train.together import train_together

Together = Callable[..., Digest]


@pytest.fixture
def together(recipe: Recipe, store: Store, base_ref: BaseRef) -> Together:
    def run(snapshot: Digest, settings: TrainSettings, *, report: Any = silent) -> Digest:
        task: dict[str, Any] = {
            "recipe": recipe.model_dump(mode="json"),
            "folder": ".",
            "store": str(store.root),
            "snapshot": snapshot,
            "base": {"id": base_ref.id, "folder": str(base_ref.folder), "revision": None},
            "settings": asdict(settings),
            "start": None,
            "who": "test",
            "device": "cpu",
            "threads": 1,
            "trackers": [],
        }
        return train_together(task, processes=2, report=report)

    return run


def losses(store: Store, run: Digest) -> list[float]:
    points = [json.loads(line) for line in store.file(run, "curves.jsonl").read_text().splitlines()]
    return [point[name] for point in points for name in ("loss", "validation_loss") if point[name] is not None]


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("lora", {}),
        ("lora", {"precision": "bfloat16", "dropout": 0.2}),
        ("lora", {"token_rows": ("plus", 8)}),
        ("qlora", {}),
        ("full", {"learning_rate": 1e-3}),
        pytest.param("lora", {"compile": "on"}, marks=pytest.mark.slow),
    ],
)
def test_the_losses_are_those_of_one_process(
    method: Method,
    change: dict[str, Any],
    together: Together,
    recipe: Recipe,
    store: Store,
    snapshot: Digest,
    base_ref: BaseRef,
    settings: TrainSettings,
) -> None:
    chosen = replace(settings, method=method, epochs=0.5, **change)
    events: list[Event] = []
    both = together(snapshot, chosen, report=events.append)
    found = losses(store, both)
    assert store.attestations(both)[-1]["processes"] == 2
    assert [event.done for event in events if event.fields.get("loss") is not None]
    # A clip that differs by a hair is another training, so that the first is not found.
    alone = train(recipe, store, snapshot, base_ref, settings=replace(chosen, clip=chosen.clip + 1e-9), threads=1)
    wanted = losses(store, alone)
    # bfloat16 keeps 8 bits: sums in another order differ by more.
    assert found == pytest.approx(wanted, rel=1e-4 if chosen.precision == "float32" else 2e-2)


def test_what_one_runs_into_is_told_as_alone(together: Together, snapshot: Digest, settings: TrainSettings) -> None:
    with pytest.raises(BudwoodError, match="Rank 999 is larger than a side"):
        together(snapshot, replace(settings, rank=999))


def test_a_process_that_dies_ends_the_others(
    together: Together, store: Store, snapshot: Digest, settings: TrainSettings
) -> None:
    def kill(event: Event) -> None:
        if "loss" in event.fields:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                words = path.read_bytes().split(b"\0") if path.exists() else []
                if b"budwood.train.worker" in words and b"torch.distributed.run" not in words:
                    os.kill(int(path.parent.name), signal.SIGKILL)
                    return

    with pytest.raises(TrainingError, match="2 processes ended with exit code"):
        together(snapshot, settings, report=kill)
    # What it had saved is gone on from.
    assert store.exists(together(snapshot, settings))


def test_passes_are_shared_out_and_company_is_kept() -> None:
    first, second = Ranks(0, 2), Ranks(1, 2)
    assert (list(first.mine(5)), list(second.mine(5))) == ([0, 2, 4], [1, 3])
    assert (first.idle(5), second.idle(5)) == (0, 1)
    assert (Ranks().idle(5), list(Ranks().mine(3)), Ranks().total(1, 2.5)) == (0, [0, 1, 2], [1, 2.5])
    assert Ranks(1, 2).idle(1) == 1
