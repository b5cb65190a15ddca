"""Rows of tokens trained with an adapter: stored, resumed to the same bytes, gone on from, refused where they make no sense."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaForCausalLM

from budwood.engine.base import BaseRef, load_base, resolve_base
from budwood.engine.lora import Adapter, load_adapter
from budwood.errors import AdapterError, BudwoodError, TrainingError
from budwood.events import Event, silent
from budwood.identity import Digest
from budwood.recipe import Recipe
from budwood.store import Store, open_store
from budwood.train.optimiser import Optimiser
from budwood.train.run import train
from budwood.train.settings import TrainSettings

EMBEDDING = "model.embed_tokens"
NAMED = ("plus", 8, "<|user|>")
IDS = (2, 5, 8)
Train = Callable[..., Digest]


@pytest.fixture
def run(recipe: Recipe, store: Store, base_ref: BaseRef, snapshot: Digest) -> Train:
    def go(settings: TrainSettings, *, start: Digest | None = None, where: Store = store, report: Any = silent) -> Digest:
        return train(recipe, where, snapshot, base_ref, settings=settings, start=start, report=report, threads=1)

    return go


def result(store: Store, run: Digest) -> Digest:
    return Digest(store.manifest(run).body["result"])


def stored(store: Store, run: Digest, base_ref: BaseRef) -> Adapter:
    return load_adapter(store.folder(result(store, run)), load_base(base_ref).model)


@pytest.mark.parametrize(
    "change", [{}, {"method": "qlora"}, {"precision": "bfloat16"}, {"dora": True}, {"init": "pissa"}], ids=str
)
def test_rows_are_learnt_and_stored(
    change: dict[str, Any], run: Train, store: Store, base_ref: BaseRef, settings: TrainSettings
) -> None:
    chosen = replace(settings, token_rows=NAMED, learning_rate=3e-3, **change)
    made = run(chosen)
    body = store.manifest(made).body
    assert body["settings"]["token_rows"] == ["plus", 8, "<|user|>"]
    assert body["validation_loss"] < body["validation_loss_before"]
    assert store.manifest(body["result"]).body["token_rows"] == {EMBEDDING: list(IDS)}
    rows = stored(store, made, base_ref).rows[EMBEDDING]
    base = load_base(base_ref).model.get_submodule(EMBEDDING).weight
    assert isinstance(base, nn.Parameter)
    assert rows.ids == IDS
    moved = (rows.values - base[list(IDS)]).abs().amax(1)
    assert bool((moved > 1e-3).all())
    assert bool((moved < 1).all())


def test_rows_help(run: Train, store: Store, settings: TrainSettings) -> None:
    many = replace(settings, token_rows=(1, 2, 3, *range(5, 25)))
    losses = [store.manifest(run(one)).body["validation_loss"] for one in (settings, many)]
    assert losses[1] < losses[0] - 0.02


class Stop(Exception):
    pass


def stopping_at(step: int) -> Callable[[Event], None]:
    def report(event: Event) -> None:
        if event.message == "Training lora" and event.done == step:
            raise Stop

    return report


def test_a_resumed_training_gives_the_same_bytes(run: Train, store: Store, settings: TrainSettings, tmp_path: Path) -> None:
    chosen = replace(settings, token_rows=NAMED, dropout=0.1, checkpoint_every=3)
    root = tmp_path / "stopped"
    shutil.copytree(store.root, root)
    expected = run(chosen)
    with open_store(root) as opened:
        for step in (5, 11):
            with pytest.raises(Stop):
                run(chosen, where=opened, report=stopping_at(step))
        assert run(chosen, where=opened) == expected
    # Another way to name the same tokens is another training with the same result.
    assert result(store, run(replace(chosen, token_rows={"embed_tokens": (5, 2, 8)}))) == result(store, expected)


def test_a_training_goes_on_with_the_same_rows_alone(run: Train, store: Store, settings: TrainSettings) -> None:
    chosen = replace(settings, token_rows=NAMED)
    first = run(chosen)
    start = result(store, first)
    again = store.manifest(run(replace(chosen, seed=9), start=start)).body
    assert again["validation_loss_before"] == pytest.approx(store.manifest(first).body["validation_loss"], rel=1e-4)
    for names, told in (((), "now no token"), ((5, 8), rf"now {EMBEDDING}: 5, 8"), ((5, 8, 2, 6), "now .*: 2, 5, 6, 8")):
        with pytest.raises(TrainingError, match=rf"has token rows of {EMBEDDING}: 2, 5, 8, {told}"):
            run(replace(chosen, token_rows=names), start=start)
    plain = result(store, run(settings))
    with pytest.raises(TrainingError, match="has token rows of no token, now"):
        run(chosen, start=plain)


@pytest.mark.parametrize(
    ("names", "kind", "message"),
    [
        (("plus", "minus"), AdapterError, 'not single tokens of this base\'s tokenizer: "minus" is unknown'),
        (("plus is",), AdapterError, '"plus is" is 2 tokens'),
        ((47,), AdapterError, "token_rows: token 47 is no row of this base, which has 47"),
        (("plus", 5), AdapterError, "token 5 is named twice"),
        ({"wte": (5,)}, AdapterError, '"wte" is no embedding or output head of this base'),
        ({"lm_head": (5,)}, AdapterError, "embedding and output head of this base are one tensor"),
        (
            ("39", "plus", "38"),
            TrainingError,
            "No training row has the tokens 45 '38', 46 '39', so their rows would learn nothing",
        ),
    ],
)
def test_what_cannot_be_learnt_is_refused(
    names: Any, kind: type[BudwoodError], message: str, run: Train, settings: TrainSettings
) -> None:
    with pytest.raises(kind, match=message):
        run(replace(settings, token_rows=names))


def test_an_untied_head_has_rows_of_its_own_when_it_is_named(
    recipe: Recipe, store: Store, base_folder: Path, snapshot: Digest, settings: TrainSettings, tmp_path: Path
) -> None:
    folder = tmp_path / "untied"
    shutil.copytree(base_folder, folder)
    (folder / "config.json").unlink()
    model = load_base(resolve_base(str(base_folder))).model
    config: Any = model.config
    config.tie_word_embeddings = False
    config._attn_implementation = "eager"
    untied = LlamaForCausalLM(config)
    weights = model.state_dict()
    untied.load_state_dict(weights | {"lm_head.weight": weights["lm_head.weight"] * 0.5})
    untied.save_pretrained(folder)
    ref = resolve_base(str(folder))
    for names, paths in ((NAMED, {EMBEDDING}), ({"embed_tokens": NAMED, "lm_head": ("is", "plus")}, {EMBEDDING, "lm_head"})):
        said: list[Event] = []
        chosen = replace(settings, token_rows=names)
        made = train(recipe, store, snapshot, ref, settings=chosen, report=said.append, threads=1)
        assert any("name lm_head as well" in event.message for event in said) is ("lm_head" not in paths)
        rows = stored(store, made, ref).rows
        assert rows.keys() == paths
        for path, one in rows.items():
            before = load_base(ref).model.state_dict()[f"{path}.weight"][list(one.ids)]
            assert bool(((one.values - before).abs().amax(1) > 1e-4).all())


def test_nothing_decays_a_row(settings: TrainSettings) -> None:
    named = {name: nn.Parameter(torch.ones(2, 3)) for name in ("x.lora_A", "model.embed_tokens.token_rows")}
    optimiser = Optimiser(named, replace(settings, weight_decay=0.5))
    for parameter in named.values():
        parameter.grad = torch.zeros(2, 3)
    optimiser.update(0.1, optimiser.measure())
    assert torch.equal(named["x.lora_A"].detach(), torch.full((2, 3), 0.95))
    assert torch.equal(named["model.embed_tokens.token_rows"].detach(), torch.ones(2, 3))


def test_settings_without_rows_keep_their_name_and_those_with_go_through_json(settings: TrainSettings) -> None:
    assert "token_rows" not in settings.as_body()
    for names in (NAMED, {"embed_tokens": NAMED, "lm_head": (8,)}):
        chosen = replace(settings, token_rows=names)
        assert TrainSettings.read(json.loads(json.dumps(asdict(chosen)))) == chosen
        assert json.loads(json.dumps(chosen.as_body())) == chosen.as_body()
        assert "token_rows" not in replace(chosen, method="full").as_body()
