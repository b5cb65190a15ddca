"""Sizes from the config alone, against the model with weights."""

import json
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from budwood.engine.lora import linear_shapes
from budwood.errors import BaseError
from budwood.plan.shape import read_shape

LLAMA = LlamaConfig(
    vocab_size=50,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    tie_word_embeddings=True,
    max_position_embeddings=64,
)
GPT2 = GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=64)
MIXTRAL = MixtralConfig(
    vocab_size=50,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=1,
    num_attention_heads=4,
    num_key_value_heads=2,
    num_local_experts=4,
    num_experts_per_tok=2,
    max_position_embeddings=64,
)


@pytest.mark.parametrize(
    ("config", "kind"), [(LLAMA, LlamaForCausalLM), (GPT2, GPT2LMHeadModel), (MIXTRAL, MixtralForCausalLM)]
)
def test_sizes_are_those_of_the_model(tmp_path: Path, config: object, kind: type) -> None:
    model: torch.nn.Module = kind(config)
    config.architectures = [kind.__name__]  # type: ignore[attr-defined]  # a transformers config
    config.save_pretrained(tmp_path)  # type: ignore[attr-defined]  # a transformers config
    shape = read_shape(tmp_path)
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert dict(shape.linears) == linear_shapes(model)
    assert (shape.hidden, shape.query, shape.vocab, shape.context) == (32, 32, 50, 64)
    assert not list(tmp_path.glob("*.safetensors"))


def test_grouped_keys_and_ffn_width(tmp_path: Path) -> None:
    LLAMA.save_pretrained(tmp_path)
    shape = read_shape(tmp_path)
    assert (shape.key, shape.ffn) == (16, 48)
    assert shape.active == shape.linear_parameters


def test_a_token_meets_some_of_the_experts(tmp_path: Path) -> None:
    MIXTRAL.save_pretrained(tmp_path)
    shape = read_shape(tmp_path)
    assert shape.expert_parameters == 4 * 3 * 32 * 48
    assert shape.active == shape.linear_parameters + 2 * 3 * 32 * 48
    assert shape.ffn == 96


def test_a_family_that_is_not_supported_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    with pytest.raises(BaseError, match="mamba"):
        read_shape(tmp_path)
