"""Adapters written here give the same logits in peft, and theirs here. peft takes seconds to import: only in this file."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from budwood.engine.lora import Adapter, AdapterBank, LoraConfig, load_adapter, save_adapter, target_paths
from budwood.errors import AdapterError

peft: Any = pytest.importorskip("peft", reason="the second witness for the file format")

ModelOf = Callable[[str], nn.Module]
FAMILIES = ["llama", "qwen2", "gpt2", "phi3", "gpt_neox", "qwen2_moe"]
IDS = torch.arange(3, 20)[None]


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        result: Tensor = model(input_ids=IDS).logits
    return result


def close(ours: Tensor, theirs: Tensor) -> bool:
    """Two float32 sums in another order, in logits of a few units."""
    return torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def in_peft(model: nn.Module, folder: Path) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for names that it will drop
        warnings.filterwarnings("error", message=".*missing adapter keys.*")
        return logits(peft.PeftModel.from_pretrained(model, folder))


def with_bank(model: nn.Module, adapter: Adapter) -> Tensor:
    bank = AdapterBank.attach(model)
    with bank.use(bank.add("a", adapter)):
        return logits(model)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rslora", [False, True])
def test_our_adapter_in_peft(
    family: str, rslora: bool, model_of: ModelOf, adapter_of: Callable[..., Adapter], tmp_path: Path
) -> None:
    model = model_of(family)
    adapter = adapter_of(model, LoraConfig(4, 6, rslora=rslora, targets=target_paths(model, "all-linear")), seed=1)
    save_adapter(adapter, tmp_path, base_id="org/base", revision=None)
    base = logits(model)
    ours = with_bank(model_of(family), adapter)
    theirs = in_peft(model, tmp_path)
    assert (ours - base).abs().max() > 0.1
    assert close(ours, theirs)


@pytest.mark.parametrize("family", FAMILIES)
def test_their_adapter_here(family: str, model_of: ModelOf, tmp_path: Path) -> None:
    names = (
        ["c_attn", "c_proj"]
        if family == "gpt2"
        else {"phi3": ["qkv_proj", "down_proj"], "gpt_neox": ["query_key_value"]}.get(family, ["q_proj", "o_proj"])
    )
    theirs = written_by_peft(model_of(family), tmp_path, r=3, lora_alpha=7, target_modules=names, task_type="CAUSAL_LM")
    adapter = load_adapter(tmp_path, model_of(family))
    assert adapter.fan_in_fan_out is (family == "gpt2")
    assert close(with_bank(model_of(family), adapter), theirs)


def test_their_patterns_and_rslora_here(model_of: ModelOf, tmp_path: Path) -> None:
    theirs = written_by_peft(
        model_of("llama"),
        tmp_path,
        r=4,
        lora_alpha=8,
        use_rslora=True,
        target_modules=["q_proj", "v_proj", "up_proj"],
        rank_pattern={"layers.0.self_attn.q_proj": 2, "up_proj": 3},
        alpha_pattern={"layers.1.self_attn.v_proj": 32},
    )
    adapter = load_adapter(tmp_path, model_of("llama"))
    assert close(with_bank(model_of("llama"), adapter), theirs)


def test_our_patterns_in_peft(model_of: ModelOf, adapter_of: Callable[..., Adapter], tmp_path: Path) -> None:
    path = "model.layers.1.self_attn.q_proj"
    model = model_of("llama")
    config = LoraConfig(4, 8, targets=("q_proj", "v_proj"), rank_pattern={path: 2}, alpha_pattern={path: 32})
    adapter = adapter_of(model, config, seed=1)
    save_adapter(adapter, tmp_path, base_id="org/base", revision=None)
    theirs = in_peft(model, tmp_path)
    assert close(with_bank(model_of("llama"), adapter), theirs)


def test_their_all_linear_is_read_as_the_paths_that_it_was_written_as(model_of: ModelOf, tmp_path: Path) -> None:
    theirs = written_by_peft(model_of("phi3"), tmp_path, r=2, target_modules="all-linear")
    adapter = load_adapter(tmp_path, model_of("phi3"))
    assert set(adapter.pairs) == set(target_paths(model_of("phi3"), "all-linear"))
    assert close(with_bank(model_of("phi3"), adapter), theirs)


def test_their_sorted_pattern_trap_is_refused(model_of: ModelOf, tmp_path: Path) -> None:
    written_by_peft(
        model_of("llama"), tmp_path, r=4, target_modules=["q_proj"],
        alpha_pattern={"q_proj": 64, "layers.0.self_attn.q_proj": 8},
    )  # fmt: skip
    with pytest.raises(AdapterError, match="alpha_pattern has two entries for"):
        load_adapter(tmp_path, model_of("llama"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init_lora_weights": "pissa"}, 'init_lora_weights is "pissa"'),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, '"embed_tokens" matches no linear layer'),
        ({"target_modules": r".*\.(q|v)_proj"}, "target_modules is a regular expression"),
        ({"layers_to_transform": [0]}, "layers_to_transform is"),
        ({"lora_bias": True}, "lora_bias is true"),
    ],
)
def test_what_we_do_not_compute_is_refused_as_peft_writes_it(
    options: dict[str, Any], message: str, model_of: ModelOf, tmp_path: Path
) -> None:
    written_by_peft(model_of("llama"), tmp_path, **{"r": 2, "target_modules": ["q_proj"], **options})
    with pytest.raises(AdapterError, match=message):
        load_adapter(tmp_path, model_of("llama"))


def test_our_settings_are_a_subset_of_theirs(model_of: ModelOf, adapter_of: Callable[..., Adapter], tmp_path: Path) -> None:
    adapter = adapter_of(model_of("llama"), LoraConfig(2, 4, targets=("q_proj",)), seed=1)
    save_adapter(adapter, tmp_path / "ours", base_id="org/base", revision=None)
    written_by_peft(model_of("llama"), tmp_path / "theirs", r=2, target_modules=["q_proj"])
    ours, theirs = (json.loads((tmp_path / side / "adapter_config.json").read_text()) for side in ("ours", "theirs"))
    assert set(ours) <= set(theirs)


def written_by_peft(model: nn.Module, folder: Path, **options: Any) -> Tensor:
    """Let peft write an adapter that does something; its logits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's own remarks on names, ties and Conv1D are not under test
        wrapped = peft.get_peft_model(model, peft.LoraConfig(**options)).eval()
        torch.manual_seed(11)
        with torch.no_grad():
            for name, parameter in wrapped.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.3)
        result = logits(wrapped)
        wrapped.save_pretrained(folder)
    return result
