"""DoRA in parity with peft: outputs, gradients, files both ways, merging, and what it does not go together with."""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from budwood.engine.lora import (
    Adapter,
    AdapterBank,
    LoraConfig,
    Segments,
    load_adapter,
    merged_weights,
    new_adapter,
    save_adapter,
    target_paths,
    with_magnitudes,
)
from budwood.engine.lora.compose import Settings, compose
from budwood.engine.quant import quantize_linears
from budwood.errors import AdapterError

peft: Any = pytest.importorskip("peft", reason="the second witness")

ModelOf = Callable[[str], nn.Module]
IDS = torch.arange(3, 20)[None]
FAMILIES = ["llama", "qwen2", "gpt2", "phi3"]


def living(model: nn.Module, *, rank: int = 3) -> Adapter:
    """Pairs and magnitudes away from their start."""
    config = LoraConfig(rank, 6, targets=target_paths(model, "all-linear"), dora=True)
    made = with_magnitudes(model, new_adapter(model, config, seed=0))
    generator = torch.Generator().manual_seed(1)
    pairs = {}
    for path, pair in made.pairs.items():
        assert pair.magnitude is not None
        noise = 1 + 0.3 * torch.rand(pair.magnitude.shape, generator=generator)
        pairs[path] = replace(pair, b=torch.randn(pair.b.shape, generator=generator) * 0.3, magnitude=pair.magnitude * noise)
    return Adapter(made.config, pairs, made.fan_in_fan_out)


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(IDS).logits
    return found


def in_peft(model: nn.Module, folder: Path, *, trainable: bool = False) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.PeftModel.from_pretrained(model, folder, is_trainable=trainable)


def with_bank(model: nn.Module, adapter: Adapter, *, trainable: bool = False) -> Tensor:
    bank = AdapterBank.attach(model)
    with bank.use(bank.add("a", adapter, trainable=trainable)):
        return logits(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fresh_one_changes_nothing(family: str, model_of: ModelOf) -> None:
    model = model_of(family)
    config = LoraConfig(3, 6, targets=target_paths(model, "all-linear"), dora=True)
    fresh = with_magnitudes(model, new_adapter(model, config, seed=0))
    torch.testing.assert_close(with_bank(model_of(family), fresh), logits(model), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_ours_in_peft_and_their_gradients(family: str, model_of: ModelOf, tmp_path: Path) -> None:
    model = model_of(family)
    adapter = living(model)
    save_adapter(adapter, tmp_path, base_id="org/base", revision=None)
    theirs = in_peft(model_of(family), tmp_path, trainable=True)
    loss = theirs(IDS).logits.square().mean()
    loss.backward()
    bank = AdapterBank.attach(model)
    slot = bank.add("a", adapter, trainable=True)
    with bank.use(slot):
        ours = model(IDS).logits
    assert float((ours.detach() - logits(model)).abs().max()) > 0.1
    ours.square().mean().backward()
    torch.testing.assert_close(ours.detach(), theirs(IDS).logits.detach(), rtol=1e-5, atol=1e-5)
    named = {name.replace(".default", ""): parameter for name, parameter in theirs.named_parameters()}
    for name, parameter in bank.named_parameters("a").items():
        half = "lora_magnitude_vector.weight" if name.endswith("magnitude") else f"{name.rpartition('.')[2]}.weight"
        wanted = named[f"base_model.model.{name.rpartition('.')[0]}.{half}"].grad
        assert parameter.grad is not None
        scale = float(wanted.abs().max())
        torch.testing.assert_close(parameter.grad / scale, wanted / scale, rtol=1e-4, atol=2e-5, msg=name)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_theirs_here(family: str, model_of: ModelOf, tmp_path: Path) -> None:
    model = model_of(family)
    save_adapter(living(model), tmp_path / "ours", base_id="org/base", revision=None)
    theirs = in_peft(model_of(family), tmp_path / "ours")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs.save_pretrained(tmp_path / "theirs")
    loaded = load_adapter(tmp_path / "theirs", model)
    assert loaded.config.dora
    torch.testing.assert_close(with_bank(model, loaded), logits(theirs), rtol=1e-5, atol=1e-5)


def test_trained_and_fixed_give_the_same(model_of: ModelOf) -> None:
    adapter = living(model_of("llama"))
    fixed, live = with_bank(model_of("llama"), adapter), with_bank(model_of("llama"), adapter, trainable=True)
    torch.testing.assert_close(fixed, live)


def test_merging_gives_the_same_logits(model_of: ModelOf) -> None:
    for family in ("llama", "gpt2"):
        model, adapter = model_of(family), living(model_of(family))
        wanted = with_bank(model_of(family), adapter)
        model.load_state_dict(merged_weights(model, adapter))
        torch.testing.assert_close(logits(model), wanted, rtol=1e-4, atol=1e-4)


def test_over_four_bits(model_of: ModelOf) -> None:
    model = model_of("llama")
    quantize_linears(model)
    adapter = living(model)
    bank = AdapterBank.attach(model)
    slot = bank.add("a", adapter, trainable=True)
    with bank.use(slot):
        model(IDS).logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in bank.parameters("a"))
    bank.detach(model)
    plain = model_of("llama")
    plain.load_state_dict(merged_weights(model, adapter))
    torch.testing.assert_close(with_bank(model, adapter), logits(plain), rtol=1e-4, atol=1e-4)


def test_a_batch_of_mixed_adapters(model_of: ModelOf) -> None:
    model = model_of("llama")
    adapter = living(model)
    alone = with_bank(model_of("llama"), adapter)
    bank = AdapterBank.attach(model)
    slot = bank.add("dora", adapter)
    other = bank.add("plain", new_adapter(model, LoraConfig(2, 4, targets=("q_proj",)), seed=3))
    ids = torch.cat([IDS, IDS, IDS])
    with torch.no_grad(), bank.use(Segments((0, 17, 34, 51), (slot, -1, other))):
        mixed = model(ids).logits
    torch.testing.assert_close(mixed[:1], alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mixed[1:2], logits(model), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", r"magnitudes of DoRA do not fit: .*q_proj\.lora_magnitude_vector is missing"),
        ("stray", r"is for no targeted module"),
        ("shape", r"is \(7,\), needs"),
        ("switched off", r"is DoRA's magnitude without use_dora"),
    ],
)
def test_damaged_files_are_refused(change: str, message: str, model_of: ModelOf, tmp_path: Path) -> None:
    model = model_of("llama")
    save_adapter(living(model), tmp_path, base_id="org/base", revision=None)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector"
    if change == "missing":
        del tensors[name]
    elif change == "stray":
        tensors["base_model.model.lm_head.lora_magnitude_vector"] = tensors[name].clone()
    elif change == "shape":
        tensors[name] = torch.ones(7)
    else:
        path = tmp_path / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"use_dora": False}))
    save_file(tensors, tmp_path / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AdapterError, match=message):
        load_adapter(tmp_path, model)


def test_it_is_not_composed(model_of: ModelOf) -> None:
    adapter = living(model_of("llama"))
    with pytest.raises(AdapterError, match="depends on the base's weights"):
        compose([adapter, adapter], Settings("concatenate", (0.5, 0.5)))
