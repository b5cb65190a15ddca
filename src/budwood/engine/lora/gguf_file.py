"""An adapter as a GGUF file, for llama.cpp: `general.type` "adapter", `adapter.type` "lora", a pair of tensors a layer.

llama.cpp scales by `adapter.lora.alpha` over the rank of each tensor, names layers its own way (`blk.3.attn_q.weight.lora_a`),
and keeps the rows of q and k of llama's family in another order: the two halves of each head interleaved, as its rotary
embedding wants them. A's rows know nothing of that, so only B's are put in that order. What GGUF cannot carry is refused.
Source: llama.cpp, convert_lora_to_gguf.py and convert_hf_to_gguf.py.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from budwood.engine.lora.adapter import Adapter, Pair
from budwood.errors import AdapterError

_ARCHITECTURES = {
    "llama": "LLAMA",
    "mistral": "LLAMA",
    "qwen2": "QWEN2",
    "qwen3": "QWEN3",
    "gemma2": "GEMMA2",
    "gemma3_text": "GEMMA3",
    "phi3": "PHI3",
}
"""transformers' model type → the name of llama.cpp's architecture in `gguf.MODEL_ARCH`."""
_REORDERED = frozenset({"LLAMA"})


@dataclass(frozen=True)
class GgufBase:
    """What has to be known of the base.

    Args:
        model_type: transformers' name of the family.
        layers: decoder layers.
        heads: attention heads.
        kv_heads: heads of keys and values.
    """

    model_type: str
    layers: int
    heads: int
    kv_heads: int

    @classmethod
    def of(cls, config: Any) -> "GgufBase":
        """Read a transformers configuration."""
        heads = int(config.num_attention_heads)
        return cls(
            str(config.model_type),
            int(config.num_hidden_layers),
            heads,
            int(getattr(config, "num_key_value_heads", None) or heads),
        )


def gguf_problems(adapter: Adapter, model_type: str) -> list[str]:
    """List why an adapter on this family has no GGUF form; empty when it has one."""
    problems = []
    if model_type not in _ARCHITECTURES:
        problems.append(f"the family {model_type!r} (known: {', '.join(_ARCHITECTURES)})")
    if any(pair.magnitude is not None for pair in adapter.pairs.values()):
        problems.append("DoRA's magnitudes")
    if adapter.rows:
        problems.append("trained rows of tokens")
    if any(pair.anchor is not None for pair in adapter.pairs.values()):
        problems.append("a start that is subtracted (PiSSA, not yet converted)")
    if _alpha(adapter) is None:
        problems.append("scales that are not one alpha over each layer's rank")
    return problems


def write_gguf(adapter: Adapter, base: GgufBase, path: Path, *, facts: Mapping[str, str]) -> None:
    """Write an adapter in float32.

    Args:
        adapter: plain LoRA pairs.
        base: that they are for.
        path: a file that does not exist yet.
        facts: name → text, kept in the file beside the adapter.

    Raises:
        AdapterError: GGUF cannot carry it; all reasons are named.
    """
    problems = gguf_problems(adapter, base.model_type)
    if problems:
        raise AdapterError(
            f"GGUF adapters cannot carry {'; '.join(problems)}.", mend="Export it as merged, and convert the whole model."
        )
    import gguf

    architecture = _ARCHITECTURES[base.model_type]
    kind = getattr(gguf.MODEL_ARCH, architecture)
    names = gguf.get_tensor_name_map(kind, base.layers)
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[kind])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(_alpha(adapter) or 0.0))
    for fact, text in facts.items():
        writer.add_string(f"budwood.{fact}", text)
    for layer, pair in sorted(adapter.pairs.items()):
        name = names.get_name(f"{layer}.weight", try_suffixes=(".weight",))
        if name is None:
            raise AdapterError(f"llama.cpp has no name for {layer}.", mend="Export it as merged, and convert the whole model.")
        b = in_gguf_order(pair.b, layer, base) if architecture in _REORDERED else pair.b
        writer.add_tensor(f"{name}.lora_a", pair.a.float().contiguous().numpy())
        writer.add_tensor(f"{name}.lora_b", b.float().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def in_gguf_order(b: Tensor, layer: str, base: GgufBase) -> Tensor:
    """Put the rows of q's and k's B (d_out, r) in llama.cpp's order: of each head, first half and second half interleaved."""
    heads = {"q_proj": base.heads, "k_proj": base.kv_heads}.get(layer.rpartition(".")[2])
    if heads is None:
        return b
    rows, rank = b.shape
    return b.reshape(heads, 2, rows // heads // 2, rank).transpose(1, 2).reshape(rows, rank)


def _alpha(adapter: Adapter) -> float | None:
    """The one alpha that gives each pair its scale over its own rank; None where there is none."""
    found = {path: _own_alpha(pair) for path, pair in adapter.pairs.items()}
    first = next(iter(found.values()))
    return first if all(math.isclose(alpha, first, rel_tol=1e-9) for alpha in found.values()) else None


def _own_alpha(pair: Pair) -> float:
    return pair.scaling * pair.a.shape[0]
