"""The GGUF adapter in llama.cpp itself: base and adapter there have the logits that they have here.

Needs an environment with xllamacpp (llama.cpp with bindings): `pip install xllamacpp`, and BUDWOOD_LLAMACPP_PYTHON naming its
Python where that is not this one.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from budwood.engine.base import LoadedBase, hidden_states, load_base, logits, read_config, resolve_base
from budwood.engine.lora import AdapterBank
from budwood.engine.lora.gguf_file import GgufBase, in_gguf_order, write_gguf
from budwood.engine.packed import Encoded, pack

from .conftest import loud_adapter, make_tokenizer

pytestmark = [pytest.mark.slow]

PYTHON = os.environ.get("BUDWOOD_LLAMACPP_PYTHON", sys.executable)
PROMPTS = [[257, 5, 40, 7, 3, 90, 12, 256, 259], [3], list(range(20, 60)), [200, 200, 200, 1, 1]]
SIZES: dict[str, Any] = {
    "vocab_size": 264,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "bos_token_id": 256,
    "eos_token_id": 256,
    "pad_token_id": 256,
}
FAMILIES: dict[str, tuple[Callable[..., PreTrainedConfig], dict[str, Any], str]] = {
    "llama": (LlamaConfig, {}, "LLAMA"),
    "mistral": (MistralConfig, {"sliding_window": None}, "LLAMA"),
    "qwen2": (Qwen2Config, {}, "QWEN2"),
    "qwen3": (Qwen3Config, {"head_dim": 16}, "QWEN3"),
    "gemma2": (Gemma2Config, {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 256}, "GEMMA2"),
    "gemma3_text": (Gemma3TextConfig, {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 256}, "GEMMA3"),
    "phi3": (Phi3Config, {"sliding_window": None}, "PHI3"),
}


def llama_cpp() -> str:
    """The Python that has xllamacpp."""
    done = subprocess.run([PYTHON, "-c", "import xllamacpp"], capture_output=True, check=False, timeout=120)
    if done.returncode:
        pytest.skip("no xllamacpp; install it and name its Python in BUDWOOD_LLAMACPP_PYTHON")
    return PYTHON


@pytest.mark.parametrize("family", FAMILIES)
def test_base_and_adapter_have_our_logits(family: str, tmp_path: Path) -> None:
    python = llama_cpp()
    make, more, architecture = FAMILIES[family]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(make(**SIZES, **more))  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for weight in model.parameters():
            # Norms begin at one and biases at zero: neither would show that it was put in the wrong place.
            if weight.dim() == 1:
                weight.add_(torch.randn(weight.shape) * 0.1)
    model.save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    ref = resolve_base(str(tmp_path / "base"))
    base = load_base(ref, dtype=torch.float32)
    adapter = loud_adapter(base, 1)
    shape = GgufBase.of(read_config(ref))
    write_base(base, shape, architecture, tmp_path / "base.gguf")
    write_gguf(adapter, shape, tmp_path / "adapter.gguf", facts={})
    bank = AdapterBank.attach(base.model)
    slot = bank.add("it", adapter)
    for lora, chosen in (("", -1), (str(tmp_path / "adapter.gguf"), slot)):
        found = asked(python, {"model": str(tmp_path / "base.gguf"), "lora": lora, "prompts": PROMPTS, "vocab": 264})
        for prompt, row in zip(PROMPTS, found, strict=True):
            with bank.use(chosen):
                ours = next_logprobs(base, prompt)
            # What was measured: one value of 264 at 0.00204 in gemma3, the other families below 2e-3.
            torch.testing.assert_close(torch.tensor(row), ours, rtol=0, atol=5e-3 if family == "gemma3_text" else 2e-3)
    with bank.use(-1):
        plain = next_logprobs(base, PROMPTS[0])
    with bank.use(slot):
        assert float((next_logprobs(base, PROMPTS[0]) - plain).abs().max()) > 0.5  # what is compared is not the base twice


def asked(python: str, wanted: dict[str, Any]) -> list[list[float]]:
    done = subprocess.run(
        [python, str(Path(__file__).with_name("ask_llama_cpp.py"))],
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    found: list[list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def next_logprobs(base: LoadedBase, prompt: list[int]) -> Tensor:
    last = torch.tensor([len(prompt) - 1])
    with torch.no_grad():
        hidden = hidden_states(base.model, pack([Encoded(tuple(prompt), (False,) * len(prompt))]), only=last)
        return torch.log_softmax(logits(base.model, hidden, last).float(), -1)[0]


def write_base(base: LoadedBase, shape: GgufBase, architecture: str, path: Path) -> None:
    """Write a base as llama.cpp wants it: as much of its own converter as these tiny models need."""
    config: Any = base.model.config
    kind = getattr(gguf.MODEL_ARCH, architecture)
    names = gguf.get_tensor_name_map(kind, shape.layers)
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[kind])
    head = int(getattr(config, "head_dim", None) or config.hidden_size // shape.heads)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(shape.layers)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_freq_base(rope_base(config))
    if architecture in ("GEMMA2", "GEMMA3"):
        writer.add_sliding_window(config.sliding_window)
    if architecture == "GEMMA2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if architecture == "PHI3":
        writer.add_sliding_window(0)
        writer.add_rope_scaling_orig_ctx_len(config.max_position_embeddings)
    write_vocabulary(writer, config.vocab_size)
    for name, tensor in base.model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stem, _, tail = name.rpartition(".")
        own = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert own is not None, name
        value = tensor.float()
        if architecture == "LLAMA":
            value = in_gguf_order(value, stem, shape)
        if architecture.startswith("GEMMA") and stem.endswith("norm"):
            value = value + 1
        writer.add_tensor(own, value.contiguous().numpy())
        assert tail in ("weight", "bias")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def rope_base(config: Any) -> float:
    found = getattr(config, "rope_parameters", None) or {}
    found = found.get("full_attention", found)
    theta = float(found.get("rope_theta", 10000.0))
    assert math.isfinite(theta)
    return theta


def write_vocabulary(writer: Any, size: int) -> None:
    """Only token ids are sent: the words need to be there, and no more."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"w{number}" for number in range(size)])
    writer.add_token_types([gguf.TokenType.NORMAL] * size)
    writer.add_token_merges(["w 1"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(256)
