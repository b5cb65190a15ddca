"""A packed, accumulated step against an obvious loop: padded rows, a mask, W + scaling · B A multiplied out, autograd."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from transformers import AutoModelForCausalLM

from budwood.engine.base import BaseRef, load_base
from budwood.engine.lora import Adapter, LoraConfig, Pair, new_adapter, target_paths
from budwood.engine.packed import Encoded, pack
from budwood.train.trainable import AdapterTraining, FullTraining

PASSES = [[5, 9, 3], [14], [7, 7]]


def encoded_passes() -> list[list[Encoded]]:
    generator = torch.Generator().manual_seed(4)
    return [
        [
            Encoded(
                tuple(torch.randint(5, 40, (length,), generator=generator).tolist()),
                tuple(index >= length // 2 for index in range(length)),
            )
            for length in lengths
        ]
        for lengths in PASSES
    ]


def some_adapter(model: torch.nn.Module) -> Adapter:
    """Not fresh: with B = 0 the gradient of A would be zero."""
    adapter = new_adapter(model, LoraConfig(4, 8.0, targets=target_paths(model, "all-linear")), seed=5)
    generator = torch.Generator().manual_seed(6)
    pairs = {
        path: Pair(pair.a, torch.randn(pair.b.shape, generator=generator) * 0.1, pair.scaling)
        for path, pair in adapter.pairs.items()
    }
    return replace(adapter, pairs=pairs)


def padded_loss(folder: Path, rows: list[Encoded], weights: dict[str, Tensor] | None = None) -> tuple[Tensor, torch.nn.Module]:
    """Mean over the supervised tokens of all rows, in float64, with transformers' own attention."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
    longest = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), -100)
    for index, row in enumerate(rows):
        length = len(row.ids)
        ids[index, :length] = torch.tensor(row.ids)
        mask[index, :length] = 1
        labels[index, :length] = torch.where(torch.tensor(row.supervised), torch.tensor(row.ids), -100)
    arguments = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    output = functional_call(model, weights, (), arguments) if weights else model(**arguments)
    loss = torch.nn.functional.cross_entropy(output.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    return loss, model


def test_a_packed_step_equals_a_padded_loop(base_folder: Path, base_ref: BaseRef) -> None:
    passes = encoded_passes()
    rows = [row for rows in passes for row in rows]
    base = load_base(base_ref)
    adapter = some_adapter(base.model)

    leaves = {
        f"{path}.{name}": tensor.double().requires_grad_()
        for path, pair in adapter.pairs.items()
        for name, tensor in (("lora_A", pair.a), ("lora_B", pair.b))
    }
    state = {name: tensor.double() for name, tensor in base.model.named_parameters()}
    for path, pair in adapter.pairs.items():
        delta = pair.scaling * leaves[f"{path}.lora_B"] @ leaves[f"{path}.lora_A"]
        state[f"{path}.weight"] = state[f"{path}.weight"] + delta
    expected, _ = padded_loss(base_folder, rows, state)
    expected.backward()  # type: ignore[no-untyped-call]  # torch has no types here

    training = AdapterTraining(base.model, adapter)
    batches = [pack(rows) for rows in passes]
    supervised = sum(len(batch.targets) for batch in batches)
    total = 0.0
    for batch in batches:
        loss = training.loss_sum(batch, dropout=None) / supervised
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        total += float(loss.detach())

    assert total == pytest.approx(float(expected.detach()), rel=1e-6)
    assert set(training.parameters) == set(leaves)
    for name, parameter in training.parameters.items():
        wanted = leaves[name].grad
        assert wanted is not None
        assert parameter.grad is not None
        # 1e-5 of the largest entry: float32 sums of a few hundred products against float64.
        torch.testing.assert_close(parameter.grad.double(), wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
    assert all(weight.grad is None for weight in base.model.parameters())


def test_a_full_step_equals_a_padded_loop_and_trains_the_tied_head(base_folder: Path, base_ref: BaseRef) -> None:
    rows = [row for rows in encoded_passes() for row in rows]
    expected, model = padded_loss(base_folder, rows)
    expected.backward()  # type: ignore[no-untyped-call]  # torch has no types here

    training = FullTraining(load_base(base_ref).model, torch.float32)
    batch = pack(rows)
    loss = training.loss_sum(batch, dropout=None) / len(batch.targets)
    loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here

    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    wanted = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert set(training.parameters) == set(wanted)
    for name, parameter in training.parameters.items():
        gradient = wanted[name]
        assert gradient is not None
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad.double(), gradient, rtol=1e-5, atol=1e-5 * float(gradient.abs().max()))


def test_full_training_in_bfloat16_keeps_float32_weights_and_gradients(base_ref: BaseRef) -> None:
    training = FullTraining(load_base(base_ref).model, torch.bfloat16)
    batch = pack(encoded_passes()[0])
    loss = training.loss_sum(batch, dropout=None)
    loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
    for parameter in training.parameters.values():
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
