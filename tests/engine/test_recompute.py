"""Layers computed twice give the bytes of layers computed once, for every family, and keep less."""

import pytest
import torch
from tests.engine.test_families import gradients, packed_loss, rows
from tests.engine.tiny import CASES, Case, tiny_model
from torch import Tensor, nn

from budwood.engine.attention import register_attention
from budwood.engine.layers import StandIn, decoder_layers
from budwood.engine.lora import AdapterBank, LoraConfig, new_adapter
from budwood.engine.packed import pack
from budwood.errors import BaseError
from budwood.train.trainable import AdapterTraining, FullTraining


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_full_fine_tuning_has_the_same_gradients(case: Case) -> None:
    register_attention()
    results = []
    for checkpointing in ("none", "layer"):
        model = tiny_model(case, "budwood")
        FullTraining(model, torch.float32, checkpointing=checkpointing)
        loss = packed_loss(model, rows())
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        results.append((loss, gradients(model)))
    (loss, wanted), (again, found) = results
    assert torch.equal(loss, again)
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("case", [CASES[0], CASES[7], CASES[10]], ids=lambda case: case.name)
def test_an_adapter_has_the_same_gradients_after_its_use_has_ended(case: Case, dropout: float) -> None:
    register_attention()
    results: list[dict[str, Tensor | None]] = []
    for checkpointing in ("none", "layer"):
        model = tiny_model(case, "budwood")
        adapter = new_adapter(
            model, LoraConfig(3, 6.0, dropout=dropout, targets=("c_attn",) if case.name == "gpt2" else ("q_proj",)), seed=0
        )
        training = AdapterTraining(model, adapter, checkpointing=checkpointing)
        for parameter in training.parameters.values():
            nn.init.normal_(parameter, generator=torch.Generator().manual_seed(parameter.numel()))
        training.loss_sum(pack(rows()), dropout=torch.Generator().manual_seed(1)).backward()  # type: ignore[no-untyped-call]
        results.append({name: parameter.grad for name, parameter in training.parameters.items()})
    for name, wanted in results[0].items():
        found = results[1][name]
        assert wanted is not None
        assert found is not None
        assert float(wanted.abs().max()) > 0
        assert torch.equal(wanted, found), name


def test_only_the_layers_inputs_are_kept() -> None:
    register_attention()
    kept = []
    for checkpointing in ("none", "layer"):
        model = tiny_model(CASES[0], "budwood")
        FullTraining(model, torch.float32, checkpointing=checkpointing)
        sizes: dict[int, int] = {}

        def pack_hook(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack_hook, lambda tensor: tensor):
            packed_loss(model, rows())
        kept.append(sum(sizes.values()))
    assert kept[1] < 0.5 * kept[0]


def test_layers_are_put_back() -> None:
    model = tiny_model(CASES[0], "budwood")
    own = list(decoder_layers(model))
    names = [name for name, _ in model.named_modules()]
    training = FullTraining(model, torch.float32, checkpointing="layer")
    assert all(isinstance(layer, StandIn) for layer in decoder_layers(model))
    assert [name for name, _ in model.named_modules()] == names
    training.release()
    assert all(a is b for a, b in zip(own, decoder_layers(model), strict=True))


def test_a_model_without_a_list_of_layers_is_named() -> None:
    model = tiny_model(CASES[0], "budwood")
    model.config.num_hidden_layers = 7  # type: ignore[union-attr]  # transformers' config
    with pytest.raises(BaseError, match="no list of 7 layers"):
        decoder_layers(model)


def test_the_bank_notes_what_was_in_use() -> None:
    model = tiny_model(CASES[0], "budwood")
    bank = AdapterBank.attach(model)
    slot = bank.add("a", new_adapter(model, LoraConfig(2, 4.0, targets=("q_proj",)), seed=0))
    layer = model.get_submodule("model.layers.0.self_attn.q_proj")
    with bank.use(slot):
        again = bank.note()
    assert layer.active(3, torch.device("cpu")) == []  # type: ignore[operator]  # a LoraLinear
    with again():
        assert len(layer.active(3, torch.device("cpu"))) == 1  # type: ignore[operator]  # a LoraLinear
