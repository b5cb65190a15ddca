"""Trainings on each device: interrupted they end with the same bytes, and a GPU's memory stays below what the plan says."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.devices import DEVICES, computes_on
from torch import nn

from budwood.engine.base import BaseRef
from budwood.errors import TrainingError
from budwood.events import Event, silent
from budwood.identity import Digest
from budwood.plan.memory import Load, memory_terms, peak
from budwood.plan.shape import read_shape
from budwood.recipe import Recipe
from budwood.store import Store, open_store
from budwood.train.determinism import deterministic
from budwood.train.run import train
from budwood.train.settings import TrainSettings


class Stop(Exception):
    pass


def stopping_at(step: int) -> Callable[[Event], None]:
    def report(event: Event) -> None:
        if event.message.startswith("Training") and event.done == step:
            raise Stop

    return report


@pytest.mark.parametrize(
    "change",
    [
        {"method": "lora", "precision": "bfloat16", "dropout": 0.1},
        {"method": "lora", "checkpointing": "layer"},
        {"method": "qlora", "precision": "bfloat16"},
        {"method": "full", "learning_rate": 1e-3},
        pytest.param({"method": "lora", "compile": "on"}, marks=pytest.mark.slow),
        pytest.param({"method": "qlora", "compile": "on", "checkpointing": "layer"}, marks=pytest.mark.slow),
    ],
    ids=lambda change: " ".join(map(str, change.values())),
)
@pytest.mark.parametrize("device", DEVICES)
def test_interrupted_it_ends_with_the_same_bytes(
    device: str,
    change: dict[str, Any],
    recipe: Recipe,
    base_ref: BaseRef,
    settings: TrainSettings,
    snapshot: Digest,
    store: Store,
    tmp_path: Path,
) -> None:
    computes_on(device)
    import shutil

    changes: dict[str, Any] = {"compile": "off", "epochs": 1.0, "checkpoint_every": 3} | change
    chosen = replace(settings, **changes)
    root = tmp_path / "stopped"
    shutil.copytree(store.root, root)

    def run(opened: Store, report: Callable[[Event], None]) -> Digest:
        # What one process has compiled, the next one has to compile, too.
        torch._dynamo.reset()
        return train(recipe, opened, snapshot, base_ref, settings=chosen, report=report, threads=1, device=device)

    expected = run(store, silent)
    way = store.attestations(expected)[-1]["way"]
    assert way.startswith("compiled layers") == (change.get("compile") == "on")
    with open_store(root) as opened:
        with pytest.raises(Stop):
            run(opened, stopping_at(8))
        said: list[str] = []
        assert run(opened, lambda event: said.append(event.message)) == expected
    assert any(line.startswith("Going on from step 6") for line in said)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", ["none", "layer"])
@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_the_memory_of_a_gpu_stays_below_what_the_plan_says(method: Any, checkpointing: Any, tmp_path: Path) -> None:
    computes_on("cuda")
    from transformers import LlamaConfig, LlamaForCausalLM

    from budwood.engine.attention import register_attention
    from budwood.engine.lora import LoraConfig, new_adapter, target_paths
    from budwood.engine.packed import Encoded, pack
    from budwood.engine.quant import quantize_linears
    from budwood.train.optimiser import Optimiser
    from budwood.train.trainable import AdapterTraining

    shape: dict[str, Any] = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9}
    config = LlamaConfig(**shape, num_key_value_heads=3, vocab_size=49_152, max_position_embeddings=4096)
    config.save_pretrained(tmp_path)
    register_attention()
    model: nn.Module = LlamaForCausalLM._from_config(config, attn_implementation="budwood", dtype=torch.bfloat16)  # type: ignore[no-untyped-call]  # transformers
    if method == "qlora":
        quantize_linears(model)
    model = model.to("cuda").requires_grad_(False).eval()
    tokens = 4096
    rows = [Encoded(tuple(range(4, 4 + 512)), (False,) * 342 + (True,) * 170)] * (tokens // 512)
    chosen = TrainSettings.of(Recipe.model_validate(_recipe()).train, method=method, learning_rate=1e-4, seed=0)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    with deterministic(1, "cuda"):
        adapter = new_adapter(model, LoraConfig(16, 32.0, targets=target_paths(model, "all-linear")), seed=0)
        training = AdapterTraining(model, adapter, checkpointing=checkpointing)
        optimiser = Optimiser(training.parameters, chosen)
        for _ in range(3):
            training.loss_sum(pack(rows, "cuda"), dropout=None).backward()  # type: ignore[no-untyped-call]  # torch
            optimiser.update(1e-4, optimiser.measure())
    trained = sum(parameter.numel() for parameter in training.parameters.values())
    load = Load(trained, tokens, 170 / 512, 2, keeps_best=False, checkpointing=checkpointing, device="cuda")
    known = read_shape(tmp_path)
    terms = memory_terms(method, known, load)
    most = peak(method, known, load, terms)
    runtime = next(term for term in terms if term.name == "runtime").bytes
    assert torch.cuda.max_memory_allocated() < most.high - runtime.high
    assert torch.cuda.max_memory_reserved() < most.high
    assert torch.cuda.max_memory_allocated() > 0.5 * (most.low - runtime.low)


def _recipe() -> dict[str, Any]:
    return {"name": "memory", "source": [{"path": "rows.jsonl"}]}


@pytest.mark.gpu
def test_a_gpu_whose_products_do_not_repeat_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    computes_on("cuda")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    with pytest.raises(TrainingError, match="would not give the same bytes"), deterministic(1, "cuda"):
        pass
