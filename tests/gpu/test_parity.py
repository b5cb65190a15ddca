"""Packed losses and adapter gradients against transformers and peft, padded, in float32, on each device."""

from typing import Any

import pytest
import torch
from tests.devices import DEVICES, computes_on
from tests.engine.test_families import LENGTHS, rows
from tests.engine.tiny import CASES, Case, tiny_model

from budwood.engine.attention import register_attention
from budwood.engine.lora import Adapter, LoraConfig, Pair, new_adapter
from budwood.engine.packed import pack
from budwood.train.trainable import AdapterTraining

# peft asks a model by the name that transformers is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
CHOSEN = [case for case in CASES if case.name in ("llama", "mistral window", "gemma2", "qwen3")]
TARGETS = ("q_proj", "v_proj", "down_proj")
RANK, ALPHA = 3, 6.0


def started(model: torch.nn.Module) -> Adapter:
    """A start whose B is not zero, so that every gradient says something."""
    fresh = new_adapter(model, LoraConfig(RANK, ALPHA, targets=TARGETS), seed=0)
    generator = torch.Generator().manual_seed(1)
    pairs = {
        path: Pair(pair.a, torch.randn(pair.b.shape, generator=generator) * 0.1, pair.scaling)
        for path, pair in fresh.pairs.items()
    }
    return Adapter(fresh.config, pairs)


def padded_with_peft(case: Case, adapter: Adapter, device: str) -> tuple[float, dict[str, torch.Tensor]]:
    peft = pytest.importorskip("peft")
    model: Any = peft.get_peft_model(
        tiny_model(case, "eager").to(device), peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(TARGETS))
    )
    leaves = {name.removeprefix("base_model.model."): leaf for name, leaf in model.named_parameters() if "lora_" in name}
    with torch.no_grad():
        for path, pair in adapter.pairs.items():
            leaves[f"{path}.lora_A.default.weight"].copy_(pair.a)
            leaves[f"{path}.lora_B.default.weight"].copy_(pair.b)
    longest = max(LENGTHS)
    ids, mask, labels = (torch.full((len(LENGTHS), longest), fill) for fill in (0, 0, -100))
    for place, row in enumerate(rows()):
        length = len(row.ids)
        ids[place, :length] = torch.tensor(row.ids)
        mask[place, :length] = 1
        labels[place, :length] = torch.tensor(
            [token if on else -100 for token, on in zip(row.ids, row.supervised, strict=True)]
        )
    logits = model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).logits
    flat, wanted = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten().to(device)
    loss = torch.nn.functional.cross_entropy(flat, wanted, reduction="sum")
    loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
    grads = {name.replace(".default.weight", ""): leaf.grad for name, leaf in leaves.items()}
    return float(loss.detach()), grads


@pytest.mark.parametrize("case", CHOSEN, ids=lambda case: case.name)
@pytest.mark.parametrize("device", DEVICES)
def test_packed_is_padded(device: str, case: Case) -> None:
    computes_on(device)
    register_attention()
    model = tiny_model(case, "budwood").to(device)
    adapter = started(model)
    training = AdapterTraining(model, adapter)
    loss = training.loss_sum(pack(rows(), device), dropout=None)
    loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
    expected, wanted = padded_with_peft(case, adapter, device)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)
    assert set(training.parameters) == set(wanted)
    for name, parameter in training.parameters.items():
        assert parameter.grad is not None
        limit = 1e-5 * float(wanted[name].abs().max())
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-5, atol=limit, msg=name)
