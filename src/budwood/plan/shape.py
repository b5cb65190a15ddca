"""What a base is made of, read from config.json: the model is built without memory for its weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class BaseShape:
    """Sizes of a base.

    Args:
        model_type: family.
        parameters: all weights, tied ones counted once.
        linears: module path → (d_out, d_in) of every layer that can carry a pair; these are what NF4 holds in 4 bits.
        expert_parameters: weights of experts, of which a token meets the share `expert_share`.
        expert_share: experts a token meets / experts.
        layers: of the model.
        hidden: width of the residual stream.
        query: heads times head size.
        key: key heads times head size.
        ffn: width inside the feed-forward layer (of all experts that a token meets).
        vocab: rows of the head.
        context: longest row, tokens.
        llama_kind: its layers can be one node each (engine.fused).
        four_bits: its files hold the linear layers in 4 bits already.
    """

    model_type: str
    parameters: int
    linears: Mapping[str, tuple[int, int]]
    expert_parameters: int
    expert_share: float
    layers: int
    hidden: int
    query: int
    key: int
    ffn: int
    vocab: int
    context: int
    llama_kind: bool = False
    four_bits: bool = False

    @property
    def linear_parameters(self) -> int:
        return sum(d_out * d_in for d_out, d_in in self.linears.values())

    @property
    def active(self) -> float:
        """Weights that a token is multiplied with, the head left out."""
        return self.linear_parameters + self.expert_parameters * self.expert_share


def read_shape(folder: Path) -> BaseShape:
    """Read a base's sizes.

    Raises:
        BaseError: no config.json, or a family that is not supported.
    """
    from budwood.engine.base import BaseRef, skeleton
    from budwood.engine.families import stored_in_four_bits
    from budwood.engine.fused import is_llama_kind
    from budwood.engine.lora import linear_shapes

    model = skeleton(BaseRef(str(folder), folder, None))
    config: Any = model.config  # its fields are the family's
    experts = int(getattr(config, "num_local_experts", 0) or getattr(config, "num_experts", 0) or 0)
    chosen = int(getattr(config, "num_experts_per_tok", 0) or 0)
    head_size = int(getattr(config, "head_dim", 0) or config.hidden_size // config.num_attention_heads)
    key_heads = int(getattr(config, "num_key_value_heads", 0) or config.num_attention_heads)
    return BaseShape(
        model_type=str(config.model_type),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        linears=linear_shapes(model),
        expert_parameters=_in_experts(model),
        expert_share=chosen / experts if experts else 1.0,
        layers=int(config.num_hidden_layers),
        hidden=int(config.hidden_size),
        query=int(config.num_attention_heads) * head_size,
        key=key_heads * head_size,
        ffn=_ffn(config) * (chosen or 1),
        vocab=int(config.vocab_size),
        context=int(config.max_position_embeddings),
        llama_kind=is_llama_kind(config),
        four_bits=stored_in_four_bits(config),
    )


def _in_experts(model: "nn.Module") -> int:
    return sum(parameter.numel() for name, parameter in model.named_parameters() if "experts" in name.split("."))


def _ffn(config: Any) -> int:
    """Width inside a feed-forward layer; GPT-2 leaves it out where it is four times the hidden size."""
    for name in ("moe_intermediate_size", "intermediate_size", "n_inner"):
        value = getattr(config, name, None)
        if value:
            return int(value)
    return 4 * int(config.hidden_size)
