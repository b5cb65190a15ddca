"""Tiny random bases of the families that adapters must fit, and adapters that do something."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import AutoConfig

from budwood.engine.lora import Adapter, LoraConfig, Pair, new_adapter

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2},
    "qwen2": {"num_key_value_heads": 2},
    "gpt2": {},
    "phi3": {"num_key_value_heads": 2, "pad_token_id": 0},
    "gpt_neox": {},
    "mixtral": {"num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {
        "num_key_value_heads": 2,
        "num_experts": 4,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 24,
        "decoder_sparse_step": 1,
    },
}


def make_model(family: str) -> nn.Module:
    return copy.deepcopy(_model(family))


@cache
def _model(family: str) -> nn.Module:
    shape = (
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
        if family == "gpt2"
        else {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    )
    torch.manual_seed(7)
    config = AutoConfig.for_model(family, vocab_size=61, bos_token_id=1, eos_token_id=2, **shape, **FAMILIES[family])
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(5)  # the stock init is so small that logits barely depend on anything
    assert isinstance(model, nn.Module)
    return model.eval()


def make_adapter(model: nn.Module, config: LoraConfig, *, seed: int) -> Adapter:
    """Make an adapter with B away from zero, so that it changes the logits."""
    fresh = new_adapter(model, config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    pairs = {
        path: Pair(pair.a, torch.randn(pair.b.shape, generator=generator) * 0.3, pair.scaling)
        for path, pair in fresh.pairs.items()
    }
    return replace(fresh, pairs=pairs)


@pytest.fixture
def llama() -> nn.Module:
    return make_model("llama")


@pytest.fixture
def model_of() -> Callable[[str], nn.Module]:
    return make_model


@pytest.fixture
def adapter_of() -> Callable[..., Adapter]:
    return make_adapter
