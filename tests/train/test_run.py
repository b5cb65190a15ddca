"""The stage: what it stores, that it is not done twice, and that the same work gives the same bytes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from budwood.engine.base import BaseRef, identify_base, load_base, resolve_base
from budwood.engine.lora import linear_shapes, load_adapter
from budwood.engine.quant import Linear4bit
from budwood.errors import AdapterError, TrainingError
from budwood.events import Event, silent
from budwood.identity import Digest
from budwood.recipe import Recipe
from budwood.store import Store, open_store
from budwood.train.run import train
from budwood.train.settings import TrainSettings

Snapshots = Callable[..., Digest]


class Job:
    """A training of the tiny base in one line."""

    def __init__(self, recipe: Recipe, store: Store, base_ref: BaseRef) -> None:
        self.recipe, self.store, self.base_ref = recipe, store, base_ref
        self.events: list[Event] = []

    def train(self, snapshot: Digest, settings: TrainSettings, *, start: Digest | None = None, who: str = "") -> Digest:
        self.events.clear()
        return train(
            self.recipe,
            self.store,
            snapshot,
            self.base_ref,
            settings=settings,
            start=start,
            who=who,
            report=self.events.append,
            threads=1,
        )

    def body(self, run: Digest) -> dict[str, Any]:
        return dict(self.store.manifest(run).body)


@pytest.fixture
def job(recipe: Recipe, store: Store, base_ref: BaseRef) -> Job:
    return Job(recipe, store, base_ref)


def test_a_lora_training_learns_and_stores_run_and_adapter(job: Job, snapshot: Digest, settings: TrainSettings) -> None:
    run = job.train(snapshot, settings, who="ada")
    body = job.body(run)
    assert body["validation_loss"] < body["validation_loss_before"] - 0.5
    base = identify_base(job.base_ref)
    adapter = job.store.manifest(body["result"])
    assert adapter.body["base"] == base.weights_digest
    assert adapter.body["parameters"] == 4 * sum(map(sum, linear_shapes(load_base(job.base_ref).model).values()))
    assert job.store.manifest(adapter.parents[0]).body["weights_digest"] == base.weights_digest
    assert job.store.manifest(run).parents == (snapshot, adapter.parents[0], body["result"])
    assert load_adapter(job.store.folder(body["result"]), load_base(job.base_ref).model).config.rank == 4
    attested = job.store.attestations(run)[0]
    assert attested["who"] == "ada"
    assert attested["peak_bytes"] > 0


def test_curves_have_a_point_a_step_and_the_kept_step_is_the_best(job: Job, snapshot: Digest, settings: TrainSettings) -> None:
    run = job.train(snapshot, settings)
    points = [json.loads(line) for line in job.store.file(run, "curves.jsonl").read_text().splitlines()]
    body = job.body(run)
    assert [point["step"] for point in points] == list(range(body["steps"] + 1))
    measured = {point["step"]: point["validation_loss"] for point in points[1:] if point["validation_loss"] is not None}
    assert len(measured) == 3
    assert body["steps"] in measured
    assert measured[body["best_step"]] == min(measured.values()) == body["validation_loss"]
    assert points[0]["validation_loss"] == body["validation_loss_before"]
    assert points[-1]["tokens"] == body["tokens"]
    shown = [event for event in job.events if event.message == "Training lora" and "loss" in event.fields]
    assert [event.done for event in shown] == list(range(1, body["steps"] + 1))
    assert set(shown[-1].fields) == {"loss", "tokens/s", "left"}
    assert shown[-1].fields["left"] == "0 s"


def test_the_same_training_twice_gives_the_same_bytes(
    job: Job, snapshot: Digest, settings: TrainSettings, tmp_path: Path, recipe: Recipe, base_ref: BaseRef
) -> None:
    dropping = replace(settings, dropout=0.2)
    first = job.train(snapshot, dropping)
    with open_store(tmp_path / "other") as other:
        with other.draft("snapshot") as draft:
            for entry in job.store.manifest(snapshot).files:
                (draft.folder / entry.path).write_bytes(job.store.file(snapshot, entry.path).read_bytes())
            again = draft.commit(body=job.store.manifest(snapshot).body)
        assert again == snapshot
        assert Job(recipe, other, base_ref).train(snapshot, dropping) == first
    assert job.train(snapshot, replace(dropping, seed=4)) != first


def test_work_that_is_done_is_found_and_how_often_it_was_saved_does_not_matter(
    job: Job, snapshot: Digest, settings: TrainSettings
) -> None:
    run = job.train(snapshot, settings)
    assert job.train(snapshot, replace(settings, checkpoint_every=1)) == run
    assert [event.message for event in job.events] == [f"Already trained: run {run[:12]}"]
    assert list((job.store.root / "work").iterdir()) == []


def test_the_last_step_is_kept_when_the_recipe_says_so(job: Job, make_snapshot: Snapshots, settings: TrainSettings) -> None:
    body = job.body(job.train(make_snapshot(validation=[]), replace(settings, keep="last")))
    assert body["best_step"] == body["steps"]
    assert body["validation_loss"] is None


def test_the_best_cannot_be_kept_without_validation_rows(job: Job, make_snapshot: Snapshots, settings: TrainSettings) -> None:
    with pytest.raises(TrainingError) as caught:
        job.train(make_snapshot(validation=[]), settings)
    assert str(caught.value) == (
        'There is no validation row, but keep = "best" chooses by the validation loss. In [train] keep.\n'
        '    Give [prepare] validation a larger share, or set keep = "last".'
    )


def test_qlora_trains_over_four_bits(job: Job, snapshot: Digest, settings: TrainSettings) -> None:
    body = job.body(job.train(snapshot, replace(settings, method="qlora")))
    assert body["quantization"] == "nf4"
    assert job.store.manifest(body["result"]).body["quantization"] == "nf4"
    assert body["validation_loss"] < body["validation_loss_before"] - 0.5
    model = load_base(job.base_ref, quantization="nf4").model
    assert any(isinstance(module, Linear4bit) for module in model.modules())
    load_adapter(job.store.folder(body["result"]), model)


def test_full_fine_tuning_stores_a_base_that_loads_and_gives_the_validated_loss(
    job: Job, snapshot: Digest, settings: TrainSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    full = replace(settings, method="full", learning_rate=3e-3)
    body = job.body(job.train(snapshot, full))
    assert capfd.readouterr().err == ""  # progress is the reporter's; a library's own bar would tear it apart
    assert body["validation_loss"] < body["validation_loss_before"] - 0.5
    ref = resolve_base(str(job.store.folder(body["result"])))
    identity = identify_base(ref)
    assert identity.weights_digest != identify_base(job.base_ref).weights_digest
    assert identity.template_digest == identify_base(job.base_ref).template_digest
    assert "rank" not in body["settings"]
    loaded = load_base(ref)
    assert loaded.dtype == torch.float32
    # Going on from it with a rate of nothing measurable starts at exactly the loss that was stored.
    more = job.body(job.train(snapshot, replace(full, epochs=1.0, learning_rate=1e-6), start=body["result"]))
    assert more["validation_loss_before"] == body["validation_loss"]


def test_going_on_starts_from_the_earlier_adapter(job: Job, snapshot: Digest, settings: TrainSettings) -> None:
    first = job.body(job.train(snapshot, settings))
    run = job.train(snapshot, replace(settings, seed=9), start=first["result"])
    assert job.body(run)["validation_loss_before"] == pytest.approx(first["validation_loss"], rel=1e-6)
    assert job.store.manifest(run).parents[-1] == first["result"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"rank": 8}, "was made with other settings: rank 4, now 8"),
        ({"alpha": 4.0}, "was made with other settings: alpha 8.0, now 4.0"),
        ({"method": "qlora"}, "was made with other settings: quantization 'none', now 'nf4'"),
        ({"method": "full"}, "is an adapter, method full goes on from a model"),
        ({"target_modules": ("q_proj",)}, "has other target modules: 12 layers are in one of the two only"),
    ],
)
def test_going_on_with_other_settings_is_refused(
    job: Job, snapshot: Digest, settings: TrainSettings, change: dict[str, Any], what: str
) -> None:
    short = replace(settings, epochs=0.3, validations=1)
    first = job.body(job.train(snapshot, short))
    with pytest.raises(TrainingError) as caught:
        job.train(snapshot, replace(short, seed=9, **change), start=first["result"])
    assert what in caught.value.what
    assert caught.value.where == "[train] continue_from"


def test_a_training_that_changes_nothing_is_an_error(job: Job, snapshot: Digest, settings: TrainSettings) -> None:
    with pytest.raises(TrainingError, match="Nothing was learnt"):
        job.train(snapshot, replace(settings, learning_rate=0.0, weight_decay=0.1))
    assert [*job.store.objects("adapter"), *job.store.objects("run")] == []


def test_a_rate_that_blows_up_stops_with_step_rows_and_checkpoint(job: Job, snapshot: Digest, settings: TrainSettings) -> None:
    with pytest.raises(TrainingError) as caught:
        job.train(snapshot, replace(settings, learning_rate=1e30, checkpoint_every=1, warmup=0.0))
    assert "became NaN at step 2" in caught.value.what
    assert "sums.jsonl line" in caught.value.what
    assert "The checkpoint at step 1 is whole." in caught.value.what
    assert "learning_rate" in caught.value.mend
    assert [*job.store.objects("adapter"), *job.store.objects("run")] == []


def test_a_row_over_the_context_is_refused_before_the_first_step(
    job: Job, make_snapshot: Snapshots, settings: TrainSettings
) -> None:
    long = {
        "row_id": "f" * 16,
        "messages": [{"role": "user", "content": "1 " * 70}, {"role": "assistant", "content": "is 1"}],
        "source": {"file": "long.jsonl", "sha256": "0" * 64, "line": 7},
        "weight": 1.0,
    }
    with pytest.raises(TrainingError, match=r"Row f{12} \(long.jsonl line 7\) is 75 tokens long, the base's context is 64"):
        job.train(make_snapshot(train=[long]), settings)
    assert not any(event.message.startswith("Training") for event in job.events)


def test_unknown_targets_are_refused(job: Job, snapshot: Digest, settings: TrainSettings) -> None:
    with pytest.raises(AdapterError, match="q_prj"):
        job.train(snapshot, replace(settings, target_modules=("q_prj",)))


def test_two_processes_do_not_train_the_same(job: Job, snapshot: Digest, settings: TrainSettings) -> None:
    def again(event: Event) -> None:
        if event.message == "Training lora":
            train(job.recipe, job.store, snapshot, job.base_ref, settings=settings, report=silent, threads=1)

    with pytest.raises(TrainingError, match="Another process is training exactly this"):
        train(job.recipe, job.store, snapshot, job.base_ref, settings=settings, report=again, threads=1)


def test_a_lock_that_cannot_be_made_is_a_plain_error(
    job: Job, snapshot: Digest, settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def full(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "lock":
            raise OSError(28, "No space left on device")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(TrainingError, match=r"The lock of the work folder could not be written: .*No space left"):
        job.train(snapshot, settings)


def test_the_settings_of_torch_are_put_back(job: Job, snapshot: Digest, settings: TrainSettings) -> None:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    job.train(snapshot, replace(settings, epochs=0.2, validations=1))
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def test_ranks_and_layers_of_their_own_are_trained_and_stored(job: Job, snapshot: Digest, settings: TrainSettings) -> None:
    chosen = replace(settings, layers="1-", target_modules=("q_proj", "up_proj"), rank_pattern={"up_proj": 2})
    run = job.train(snapshot, replace(chosen, alpha_pattern={"regex:.*q_proj": 4.0}))
    folder = job.store.folder(job.store.manifest(run).body["result"])
    adapter = load_adapter(folder, linear_shapes(load_base(job.base_ref).model))
    assert {path: (pair.a.shape[0], pair.scaling) for path, pair in adapter.pairs.items()} == {
        "model.layers.1.self_attn.q_proj": (4, 1.0),
        "model.layers.1.mlp.up_proj": (2, 4.0),
    }
    with pytest.raises(TrainingError, match=r"another rank or scale in 1 layers, first model\.layers\.1"):
        job.train(snapshot, replace(chosen, rank_pattern={}, alpha_pattern={"q_proj": 4.0}), start=Digest(run_result(job, run)))
    with pytest.raises(AdapterError, match="Rank 99 is larger than a side"):
        job.train(snapshot, replace(chosen, rank_pattern={"up_proj": 99}))


def test_a_base_in_eight_bits(job: Job, snapshot: Digest, settings: TrainSettings) -> None:
    run = job.train(snapshot, replace(settings, method="qlora", bits=8))
    body = job.store.manifest(run).body
    assert body["quantization"] == "int8"
    assert body["validation_loss"] < body["validation_loss_before"]
    assert job.store.manifest(body["result"]).body["quantization"] == "int8"
    assert run != job.train(snapshot, replace(settings, method="qlora"))


def run_result(job: Job, run: Digest) -> str:
    return str(job.store.manifest(run).body["result"])


def test_settings_that_came_later_change_no_name_where_they_are_off(settings: TrainSettings) -> None:
    body = replace(settings, method="qlora").as_body()
    assert not {"bits", "layers", "rank_pattern", "alpha_pattern", "b_rate_ratio", "checkpointing"} & set(body)
    assert replace(settings, method="qlora", bits=8).as_body()["bits"] == 8
    assert "bits" not in replace(settings, method="lora", bits=8).as_body()


def test_a_training_from_the_weights_directions_is_stored_as_a_plain_adapter_and_gone_on_from(
    job: Job, snapshot: Digest, settings: TrainSettings
) -> None:
    chosen = replace(settings, init="pissa", learning_rate=1e-3)
    run = job.train(snapshot, chosen)
    body = job.store.manifest(run).body
    assert body["validation_loss"] < body["validation_loss_before"]
    result = Digest(body["result"])
    assert job.store.manifest(result).body["rank"] == 2 * settings.rank
    with pytest.raises(TrainingError, match="init = 'pissa' is for a fresh adapter"):
        job.train(snapshot, replace(chosen, rank=2 * settings.rank, alpha=2 * settings.alpha), start=result)
    again = job.train(snapshot, replace(settings, rank=2 * settings.rank, alpha=2 * settings.alpha), start=result)
    assert job.store.manifest(again).body["validation_loss_before"] == pytest.approx(body["validation_loss"], rel=1e-4)


def test_lengths_of_rows_are_trained_stored_and_gone_on_from(job: Job, snapshot: Digest, settings: TrainSettings) -> None:
    chosen = replace(settings, dora=True)
    run = job.train(snapshot, chosen)
    body = job.store.manifest(run).body
    assert body["validation_loss"] < body["validation_loss_before"]
    result = Digest(body["result"])
    assert job.store.manifest(result).body["dora"] is True
    adapter = load_adapter(job.store.folder(result), linear_shapes(load_base(job.base_ref).model))
    assert all(pair.magnitude is not None for pair in adapter.pairs.values())
    again = job.train(snapshot, replace(chosen, seed=9), start=result)
    assert job.store.manifest(again).body["validation_loss_before"] == pytest.approx(body["validation_loss"], rel=1e-4)
    with pytest.raises(TrainingError, match="dora True, now False"):
        job.train(snapshot, settings, start=result)
