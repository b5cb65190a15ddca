"""Which model families are supported, and which of their settings packed attention cannot do.

What is not listed, or is listed with a setting that would be computed wrongly, is refused by name. Each family is held to
transformers' own padded forward pass by tests/engine/test_families.py.
"""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from budwood.errors import BaseError

SUPPORTED: Mapping[str, str] = {
    "llama": "",
    "mistral": "sliding window",
    "qwen2": "",
    "qwen3": "",
    "gemma2": "soft caps, alternating windows",
    "gemma3_text": "alternating windows",
    "phi3": "fused q/k/v",
    "gpt2": "Conv1D, learned positions",
    "gpt_neox": "fused q/k/v",
    "olmo2": "",
    "mixtral": "attention only; experts are not targeted",
    "qwen2_moe": "attention only; experts are not targeted",
}
"""model_type in config.json → what is special about it."""

_LENGTH_DEPENDENT = ("longrope", "dynamic")
"""Rotary tables that change for all tokens of a pass once one row is longer than the original context."""


def check_family(model_type: Any, *, where: str) -> str:
    """Give the family if it is supported.

    Raises:
        BaseError: it is not; the nearest supported one is named.
    """
    if isinstance(model_type, str) and model_type in SUPPORTED:
        return model_type
    near = difflib.get_close_matches(str(model_type), SUPPORTED, n=1)
    hint = f" Nearest: {near[0]}." if near else ""
    raise BaseError(
        f"The model family {model_type!r} is not supported.{hint}", where=where, mend=f"Supported: {', '.join(SUPPORTED)}."
    )


def check_settings(config: Any, *, where: str) -> None:
    """Refuse settings of a supported family that would be computed wrongly.

    Args:
        config: transformers' config object.
        where: the file, for the message.

    Raises:
        BaseError: they are listed.
    """
    faults = list(_faults(config))
    if faults:
        raise BaseError(
            f"This {config.model_type} base has settings that are not supported: {', '.join(faults)}.",
            where=where,
            mend="Use another base of this family.",
        )


def context_length(config: Any) -> int:
    """Give the longest row that the base computes the same way whatever else is in its batch.

    That is its context; for rotary tables that depend on the length of the longest row ("longrope", "dynamic") the context
    before their extension.
    """
    limits = [int(config.max_position_embeddings)]
    for table in _rope_tables(getattr(config, "rope_parameters", None)):
        if table.get("rope_type") in _LENGTH_DEPENDENT:
            limits.append(int(table.get("original_max_position_embeddings") or config.max_position_embeddings))
    return min(limits)


def stored_in_four_bits(config: Any) -> bool:
    """Whether the base's files hold its linear layers in bitsandbytes' NF4 already."""
    told = _plain(getattr(config, "quantization_config", None))
    return (
        told.get("quant_method") == "bitsandbytes"
        and told.get("load_in_4bit") is True
        and told.get("bnb_4bit_quant_type") == "nf4"
    )


def logit_softcap_of(config: Any) -> float | None:
    """The tanh cap on the logits; None for families without one."""
    cap = getattr(config, "final_logit_softcapping", None)
    return None if cap is None else float(cap)


def head_width(config: Any) -> int:
    """An attention head's width, which some configs state and some leave to be worked out."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _plain(told: Any) -> Mapping[str, Any]:
    values = told.to_dict() if hasattr(told, "to_dict") else told
    return values if isinstance(values, Mapping) else {}


def _named(told: Any) -> str:
    values = _plain(told)
    kind = values.get("bnb_4bit_quant_type") if values.get("load_in_4bit") else ""
    return " ".join(str(word) for word in (values.get("quant_method", "of an unknown method"), kind) if word)


def _faults(config: Any) -> Iterator[str]:
    if getattr(config, "quantization_config", None) is not None and not stored_in_four_bits(config):
        yield f"quantization_config {_named(config.quantization_config)} (only bitsandbytes' NF4 is read)"
    if getattr(config, "use_bidirectional_attention", None):
        yield "use_bidirectional_attention"
    if getattr(config, "is_causal", True) is False:
        yield "is_causal = false"
    if getattr(config, "add_cross_attention", False):
        yield "add_cross_attention"
    if config.model_type == "gemma3_text" and config.attn_logit_softcapping is not None:
        # Read by transformers into the layer, but not handed on by it: which of the two is meant cannot be known.
        yield "attn_logit_softcapping"


def _rope_tables(parameters: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(parameters, Mapping):
        yield parameters
        for value in parameters.values():
            yield from _rope_tables(value)
