"""Tiny bases with random weights, one of each family, and a tokenizer that needs no files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

VOCAB = 96
SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
GROUPED = {"num_key_value_heads": 2}


@dataclass(frozen=True)
class Case:
    """One family in one setting."""

    name: str
    model_type: str
    settings: dict[str, Any]


CASES = [
    Case("llama", "llama", GROUPED),
    Case("llama tied", "llama", GROUPED | {"tie_word_embeddings": True}),
    Case("llama wide heads", "llama", {"head_dim": 16, "attention_bias": True}),
    Case("mistral window", "mistral", GROUPED | {"sliding_window": 5}),
    Case("qwen2", "qwen2", GROUPED),
    Case("qwen2 window", "qwen2", GROUPED | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    Case("qwen3", "qwen3", GROUPED | {"head_dim": 8}),
    Case(
        "gemma2",
        "gemma2",
        GROUPED
        | {
            "head_dim": 8,
            "sliding_window": 5,
            "query_pre_attn_scalar": 20,
            "attn_logit_softcapping": 0.7,
            "final_logit_softcapping": 0.9,
        },
    ),
    Case(
        "gemma3_text",
        "gemma3_text",
        GROUPED | {"head_dim": 8, "sliding_window": 5, "sliding_window_pattern": 2, "query_pre_attn_scalar": 20},
    ),
    Case("phi3", "phi3", GROUPED | {"sliding_window": 6}),
    Case("gpt2", "gpt2", {"n_inner": 48, "scale_attn_by_inverse_layer_idx": True}),
    Case("gpt_neox", "gpt_neox", {"rotary_pct": 0.5, "use_parallel_residual": True}),
    Case("olmo2", "olmo2", GROUPED),
    Case("mixtral", "mixtral", GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 5}),
    Case(
        "qwen2_moe",
        "qwen2_moe",
        GROUPED
        | {
            "num_experts": 4,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 24,
            "use_sliding_window": True,
            "sliding_window": 4,
            "max_window_layers": 3,
        },
    ),
]


def tiny_model(case: Case, attention: str, *, seed: int = 0) -> nn.Module:
    """Make a random model whose weights are large enough that attention matters."""
    from transformers import AutoConfig, AutoModelForCausalLM

    make: Any = AutoModelForCausalLM  # from_config has no annotations
    config = AutoConfig.for_model(case.model_type, **SHAPE | case.settings)
    torch.manual_seed(seed)
    model: nn.Module = make.from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
    return model.eval()


def save_tiny(folder: Path, case: Case = CASES[0], *, seed: int = 0, shard: str = "1GB") -> Path:
    """Write a base folder: config, safetensors, and a byte tokenizer with a chat template."""
    model: Any = tiny_model(case, "eager", seed=seed)
    model.save_pretrained(folder, max_shard_size=shard)
    byte_tokenizer().save_pretrained(folder)
    return folder


CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_tokenizer(*, template: str | None = CHATML, metaspace: str | None = None, rstrip: bool = False) -> Any:
    """Make a fast tokenizer of single characters and a few merges.

    Args:
        template: the chat template; None for none.
        metaspace: a prepend scheme, for a tokenizer that writes spaces as SentencePiece does; None for byte-level BPE.
        rstrip: whether control tokens eat the white space after them.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    space = "\u2581" if metaspace else "\u0120"
    line = "\n" if metaspace else "\u010a"
    alphabet = [*map(chr, range(33, 127)), space, line]
    merges = [("h", "e"), ("l", "l"), (space, "h"), (line, line), ("he", "ll"), ("hell", "o"), (space, "a")]
    vocab = {token: place for place, token in enumerate([*SPECIAL, *alphabet, *("".join(pair) for pair in merges)])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=merges, fuse_unk=False))
    if metaspace:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=metaspace)
        backend.decoder = decoders.Metaspace(prepend_scheme=metaspace)
    else:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False, rstrip=rstrip) for token in SPECIAL])
    # Only the end token is named: bases often leave their other control tokens in tokenizer.json alone.
    make: Any = PreTrainedTokenizerFast  # has no annotations
    return make(tokenizer_object=backend, eos_token=SPECIAL[0], chat_template=template)
