"""The stage: what it stores, that it is not done twice, and that the same work gives the same bytes."""

import json

from budwood.engine.base import BaseRef, load_base
from budwood.engine.lora import load_adapter
from budwood.events import Event
from budwood.identity import Digest
from budwood.recipe import Recipe
from budwood.store import Store
from budwood.train.run import train
from budwood.train.settings import TrainSettings


def test_a_lora_training_learns_and_stores_run_and_adapter(
    recipe: Recipe, store: Store, snapshot: Digest, base_ref: BaseRef, settings: TrainSettings
) -> None:
    events: list[Event] = []
    run = train(recipe, store, snapshot, base_ref, settings=settings, report=events.append)
    body = store.manifest(run).body
    assert body["validation_loss"] < body["validation_loss_before"] - 0.5
    assert store.manifest(run).parents[:1] == (snapshot,)
    adapter = load_adapter(store.folder(body["result"]), load_base(base_ref).model)
    assert adapter.config.rank == 4
    points = [json.loads(line) for line in store.file(run, "curves.jsonl").read_text().splitlines()]
    assert [point["step"] for point in points] == list(range(body["steps"] + 1))
    assert sum(point["validation_loss"] is not None for point in points) == 1 + 3
    assert events[-1].done == events[-1].total or events[-1].message == "Validating"
    shown = [event for event in events if event.message == "Training lora"]
    assert set(shown[-1].fields) == {"loss", "tokens/s", "left"}
