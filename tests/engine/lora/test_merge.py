"""A merged base equals the attached one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from budwood.engine.lora import Adapter, AdapterBank, LoraConfig, Pair, merged_model_files, merged_weights, target_paths
from budwood.engine.lora.merge import merged, unmerged
from budwood.engine.quant import Form, quantize_linears
from budwood.errors import AdapterError

ModelOf = Callable[[str], nn.Module]
AdapterOf = Callable[..., Adapter]
IDS = torch.arange(3, 20)[None]


def trained(model: nn.Module, adapter_of: AdapterOf) -> Adapter:
    return adapter_of(model, LoraConfig(4, 8, targets=target_paths(model, "all-linear")), seed=1)


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3", "gpt_neox", "mixtral"])
def test_merged_weights_give_the_logits_of_the_attached_adapter(family: str, model_of: ModelOf, adapter_of: AdapterOf) -> None:
    model = model_of(family)
    adapter = trained(model, adapter_of)
    plain = merged_weights(model, adapter)
    bank = AdapterBank.attach(model)
    attached = merged_weights(model, adapter)
    assert plain.keys() == attached.keys() == model_of(family).state_dict().keys()
    assert all(torch.equal(plain[name], attached[name]) for name in plain)
    fresh = model_of(family)
    fresh.load_state_dict(plain)
    with torch.no_grad():
        with bank.use(bank.add("a", adapter)):
            wanted = model(IDS).logits
        base = model(IDS).logits
        found = fresh(IDS).logits
    assert (wanted - base).abs().max() > 0.1
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-5)  # float32 sums in another order, logits of a few units


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_sum_is_rounded_once(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight = torch.randn(20, 12).to(dtype)
    pair = Pair(torch.randn(3, 12), torch.randn(20, 3), 0.37)
    exact = weight.double() + 0.37 * (pair.b.double() @ pair.a.double())
    assert torch.equal(merged(weight, pair), exact.to(dtype))
    assert torch.equal(merged(weight.T.contiguous(), pair, transposed=True), exact.to(dtype).T)


def test_merging_over_nf4_is_exact_against_the_expanded_weights(model_of: ModelOf, adapter_of: AdapterOf) -> None:
    model = model_of("llama")
    adapter = trained(model, adapter_of)
    quantize_linears(model)
    bank = AdapterBank.attach(model)
    fresh = model_of("llama")
    fresh.load_state_dict(merged_weights(model, adapter))
    with torch.no_grad(), bank.use(bank.add("a", adapter)):
        assert torch.allclose(fresh(IDS).logits, model(IDS).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_merged_files_load_and_keep_the_dtype(
    family: str, dtype: torch.dtype, model_of: ModelOf, adapter_of: AdapterOf, tmp_path: Path
) -> None:
    model = model_of(family).to(dtype)
    adapter = trained(model, adapter_of)
    model.save_pretrained(tmp_path / "base")  # type: ignore[operator]  # transformers' models have it
    (tmp_path / "base" / "tokenizer.json").write_text('{"made": "up"}')
    merged_model_files(tmp_path / "base", adapter, tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    wanted = merged_weights(model, adapter)
    found = loaded.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert {tensor.dtype for name, tensor in found.items() if name.endswith("weight")} == {dtype}
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (tmp_path / "base" / "tokenizer.json").read_bytes()
    with pytest.raises(AdapterError, match="holds something already"):
        merged_model_files(tmp_path / "base", adapter, tmp_path / "out")


def test_a_misfit_is_refused_before_anything_is_written(model_of: ModelOf, adapter_of: AdapterOf, tmp_path: Path) -> None:
    model = model_of("llama")
    model.save_pretrained(tmp_path / "base")  # type: ignore[operator]  # transformers' models have it
    adapter = trained(model, adapter_of)
    path = "model.layers.0.self_attn.q_proj"
    misfit = replace(adapter, pairs={path: Pair(torch.ones(2, 8), torch.ones(8, 2), 1.0)})
    with pytest.raises(AdapterError, match=r"The adapter does not fit this base: model\.layers\.0\.self_attn\.q_proj needs A"):
        merged_model_files(tmp_path / "base", misfit, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_merged_model_that_cannot_be_written_leaves_nothing(
    model_of: ModelOf, adapter_of: AdapterOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of("llama")
    model.save_pretrained(tmp_path / "base")  # type: ignore[operator]  # transformers' models have it

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(AdapterError, match=r"could not be written: .*No space left"):
        merged_model_files(tmp_path / "base", trained(model, adapter_of), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


@pytest.mark.parametrize("form", ["nf4", "int8"])
def test_merged_files_onto_expanded_weights(form: Form, model_of: ModelOf, adapter_of: AdapterOf, tmp_path: Path) -> None:
    model = model_of("llama")
    adapter = trained(model, adapter_of)
    model.save_pretrained(tmp_path / "base")  # type: ignore[operator]  # transformers' models have it
    merged_model_files(tmp_path / "base", adapter, tmp_path / "out", onto=form)
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").state_dict()
    quantize_linears(model, form)
    wanted = merged_weights(model, adapter)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 2**-23), (torch.bfloat16, 2**-7)])
@pytest.mark.parametrize("transposed", [False, True])
def test_taking_a_delta_out_again_is_off_by_the_roundings_alone(dtype: torch.dtype, rounding: float, transposed: bool) -> None:
    torch.manual_seed(0)
    weight = torch.randn((12, 20) if transposed else (20, 12)).to(dtype)
    pair = Pair(torch.randn(3, 12), torch.randn(20, 3), 0.37)
    whole = merged(weight, pair, transposed=transposed)
    back = unmerged(whole, pair, transposed=transposed)
    allowed = (whole.abs() + weight.abs()).double() * rounding
    assert bool(((back.double() - weight.double()).abs() <= allowed).all())
    with pytest.raises(AdapterError, match="cannot be undone"):
        unmerged(whole, replace(pair, magnitude=torch.ones(20)))
