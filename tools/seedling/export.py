"""Write the network in transformers' form (LlamaForCausalLM, bfloat16, tied embedding)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tools.seedling import vocabulary
from tools.seedling.chat import END, PAD
from tools.seedling.network import Shape
from torch import Tensor

POSITIONS = 1024


def to_llama(master: dict[str, Tensor], shape: Shape) -> dict[str, Tensor]:
    """The masters under transformers' names; fused matrices are cut apart."""
    out = {"model.embed_tokens.weight": master["embedding.weight"], "model.norm.weight": master["norm.weight"]}
    for layer in range(shape.layers):
        here, there = f"blocks.{layer}.", f"model.layers.{layer}."
        query, key, value = master[here + "qkv.weight"].chunk(3)
        gate, up = master[here + "gate_up.weight"].chunk(2)
        names = {
            "input_layernorm": master[here + "attention_norm.weight"],
            "self_attn.q_proj": query,
            "self_attn.k_proj": key,
            "self_attn.v_proj": value,
            "self_attn.o_proj": master[here + "out.weight"],
            "post_attention_layernorm": master[here + "mlp_norm.weight"],
            "mlp.gate_proj": gate,
            "mlp.up_proj": up,
            "mlp.down_proj": master[here + "down.weight"],
        }
        out |= {f"{there}{name}.weight": tensor for name, tensor in names.items()}
    return {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in out.items()}


def write(folder: Path, master: dict[str, Tensor], shape: Shape, tokenizer: Tokenizer) -> None:
    """Write all files; the weights go to a temporary name first, so that a reader sees the old or the new ones."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary.write(tokenizer, folder, POSITIONS)
    end, pad = tokenizer.token_to_id(END), tokenizer.token_to_id(PAD)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.hidden_size // shape.heads,
        "hidden_act": "silu",
        "max_position_embeddings": POSITIONS,
        "rms_norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_theta,
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "bos_token_id": None,
        "eos_token_id": end,
        "pad_token_id": pad,
        "use_cache": True,
        "dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    decoding = {"bos_token_id": None, "eos_token_id": end, "pad_token_id": pad, "do_sample": False, "max_new_tokens": 256}
    (folder / "generation_config.json").write_text(json.dumps(decoding, indent=2) + "\n", encoding="utf-8")
    part = folder / "model.safetensors.part"
    save_file(to_llama(master, shape), part, metadata={"format": "pt"})
    part.chmod(0o644)
    os.replace(part, folder / "model.safetensors")
