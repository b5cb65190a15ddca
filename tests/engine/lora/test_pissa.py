"""PiSSA's start: the weights' own directions, beside an untouched base, and a plain adapter at the end."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from budwood.engine.lora import (
    Adapter,
    AdapterBank,
    LoraConfig,
    Pair,
    load_adapter,
    new_adapter,
    plain,
    principal_start,
    save_adapter,
    target_paths,
)
from budwood.engine.quant import quantize_linears
from budwood.errors import AdapterError

ModelOf = Callable[[str], nn.Module]
IDS = torch.arange(3, 20)[None]


def start(model: nn.Module, *, rank: int = 3, rslora: bool = False, dropout: float = 0.0) -> Adapter:
    config = LoraConfig(rank, 6, rslora=rslora, dropout=dropout, targets=target_paths(model, "all-linear"))
    return principal_start(model, new_adapter(model, config, seed=0), seed=0)


def trained(model: nn.Module, adapter: Adapter, *, dropout: bool = False) -> tuple[Adapter, Tensor, Tensor]:
    """Three large steps; the adapter, the logits before and after them."""
    bank = AdapterBank.attach(model)
    slot = bank.add("a", adapter, trainable=True)
    optimiser = torch.optim.SGD(bank.parameters("a"), lr=0.02)
    with torch.no_grad(), bank.use(slot):
        before = model(IDS).logits
    for step in range(3):
        generator = torch.Generator().manual_seed(step) if dropout else None
        with bank.use(slot, dropout=generator):
            model(IDS).logits.square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    with torch.no_grad(), bank.use(slot):
        after = model(IDS).logits
    found = bank.adapter("a")
    bank.detach(model)
    return found, before, after


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3"])
def test_nothing_is_changed_at_first_and_the_end_is_a_plain_adapter(family: str, model_of: ModelOf, tmp_path: Path) -> None:
    model = model_of(family)
    with torch.no_grad():
        base = model(IDS).logits
    adapter, before, after = trained(model, start(model))
    torch.testing.assert_close(before, base, rtol=1e-4, atol=1e-4)
    assert float((after - base).abs().max()) > 0.1
    save_adapter(adapter, tmp_path, base_id="org/base", revision=None)
    loaded = load_adapter(tmp_path, model)
    assert {pair.a.shape[0] for pair in loaded.pairs.values()} == {6}
    assert {pair.scaling for pair in loaded.pairs.values()} == {2.0}
    bank = AdapterBank.attach(model)
    with torch.no_grad(), bank.use(bank.add("b", loaded)):
        torch.testing.assert_close(model(IDS).logits, after, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rslora", [False, True])
def test_the_start_is_that_of_peft(rslora: bool, model_of: ModelOf) -> None:
    peft: Any = pytest.importorskip("peft", reason="the second witness")
    model = model_of("llama")
    ours = start(model, rslora=rslora)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = peft.LoraConfig(r=3, lora_alpha=6, use_rslora=rslora, target_modules="all-linear", init_lora_weights="pissa")
        theirs = peft.get_peft_model(model_of("llama"), config)
    for path, pair in ours.pairs.items():
        layer = theirs.get_submodule(f"base_model.model.{path}")
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        wanted = (b @ a).detach() * layer.scaling["default"]
        # Single directions may have another sign; what they make together may not.
        torch.testing.assert_close(pair.b @ pair.a * pair.scaling, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


def test_a_quantised_base_stays_as_it_is(model_of: ModelOf) -> None:
    model = model_of("llama")
    quantize_linears(model)
    with torch.no_grad():
        base = model(IDS).logits
    bytes_before = {name: tensor.clone() for name, tensor in model.named_buffers()}
    _, before, after = trained(model, start(model))
    torch.testing.assert_close(before, base, rtol=1e-4, atol=1e-4)
    assert float((after - base).abs().max()) > 0.1
    assert all(torch.equal(bytes_before[name], tensor) for name, tensor in model.named_buffers())


def test_dropout_drops_from_the_adapters_input_alone(model_of: ModelOf) -> None:
    """With A = A0, B = B0 and dropout, what is dropped shows, but the base with its frozen copy is whole."""
    model = model_of("llama")
    adapter = start(model, dropout=0.5)
    bank = AdapterBank.attach(model)
    slot = bank.add("a", adapter, trainable=True)
    path = next(iter(adapter.pairs))
    layer = model.get_submodule(path)
    with bank.use(slot, dropout=torch.Generator().manual_seed(0)):
        pair, anchor = layer.active(5, torch.device("cpu"))  # type: ignore[operator]  # a LoraLinear
    assert pair.mask is not None
    assert anchor.mask is None
    assert anchor.scaling == -pair.scaling


def test_the_same_seed_gives_the_same_start(model_of: ModelOf) -> None:
    first, again = start(model_of("llama")), start(model_of("llama"))
    assert all(torch.equal(first.pairs[path].a, again.pairs[path].a) for path in first.pairs)


def test_ranks_of_their_own_and_rslora_keep_their_scales(model_of: ModelOf) -> None:
    model = model_of("llama")
    path = "model.layers.1.mlp.up_proj"
    config = LoraConfig(3, 6, rslora=True, targets=("up_proj",), rank_pattern={path: 5}, alpha_pattern={path: 4.0})
    fresh = principal_start(model, new_adapter(model, config, seed=0), seed=0)
    flat = plain(fresh)
    assert {name: (pair.a.shape[0], pair.scaling) for name, pair in flat.pairs.items()} == {
        name: (2 * pair.a.shape[0], pair.scaling) for name, pair in fresh.pairs.items()
    }
    for name, pair in flat.pairs.items():
        assert flat.config.rank_of(name) == pair.a.shape[0]
        assert flat.config.scaling_of(name) == pytest.approx(pair.scaling)
        torch.testing.assert_close(pair.delta(), torch.zeros_like(pair.delta()), atol=1e-5, rtol=0)


def test_only_training_takes_frozen_copies(model_of: ModelOf) -> None:
    model = model_of("llama")
    bank = AdapterBank.attach(model)
    with pytest.raises(AdapterError, match="frozen copies of its start"):
        bank.add("a", start(model_of("llama")))
    assert plain(Adapter(LoraConfig(1, 1), {"q": Pair(torch.ones(1, 2), torch.ones(2, 1), 1.0)})).pairs["q"].anchor is None
