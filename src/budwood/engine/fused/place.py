"""Which models' layers can be one node each, and putting such layers in their place.

It hands on to the layer that it stands for whatever it cannot do itself.
"""

from typing import Any

import torch
from torch import Tensor, nn

from budwood.engine.families import head_width
from budwood.engine.fused.layer import Buffers, Heads, Norm, Pairs, Parts, Pass, decoder_layer
from budwood.engine.fused.products import Products
from budwood.engine.layers import StandIn, decoder_layers
from budwood.engine.lora.layer import LoraLinear
from budwood.engine.native.attention import LANES
from budwood.engine.native.build import Missing, kernels
from budwood.engine.packed import Layout
from budwood.errors import AdapterError

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


class FusedLayer(StandIn):
    """A decoder layer as one node. Made by `fuse`."""

    def __init__(self, layer: nn.Module, index: int, config: Any, buffers: Buffers, *, keep: bool) -> None:
        super().__init__(layer)
        self._parts = _parts(layer, index, config, buffers, keep)
        self.last = index == config.num_hidden_layers - 1

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        layout: Layout | None = None,
        only: Tensor | None = None,
        **others: Any,
    ) -> Tensor:
        """(1, T, d) → (1, T, d), as its original; the last layer gives (1, N, d) where `only` names N tokens."""
        if layout is None or position_embeddings is None or attention_mask is not None or others.get("kv") is not None:
            found: Tensor = self.original(
                hidden_states, attention_mask=attention_mask, position_embeddings=position_embeddings, layout=layout, **others
            )
            return found
        cosine, sine = (table[0].contiguous() for table in position_embeddings)
        x = hidden_states[0]
        if any(layer.has_magnitudes for layer in self._parts.layers()):
            raise AdapterError("Fused layers do not compute magnitudes (DoRA).", mend="Put the model's own layers back first.")
        parts = self._parts
        pairs = Pairs(*(products.active(x) for products in (parts.qkv, parts.output, parts.gate_up, parts.down)))
        wanted = only if self.last else None
        at_once = wanted if pairs.everywhere() else None
        y = decoder_layer(x.contiguous(), parts, Pass(cosine, sine, layout.cu_seqlens, at_once), pairs)
        if wanted is not None and at_once is None:
            y = y.index_select(0, wanted)
        return y[None]


def fuse(model: nn.Module, *, keep: bool = True) -> bool:
    """Put fused layers in place of a model's own; say whether that was possible.

    Args:
        model: with a bank attached.
        keep: what the way back needs; False: only each layer's input, all else is made again.
    """
    if not can_fuse(model):
        return False
    layers = decoder_layers(model)
    buffers = Buffers()
    for index, layer in enumerate(layers):
        layers[index] = FusedLayer(layer, index, model.config, buffers, keep=keep)
    return True


def selects(model: nn.Module) -> bool:
    """Whether the model's last layer takes `only`: results of the tokens that are wanted, and no others."""
    last = decoder_layers(model)[-1]
    return isinstance(last, FusedLayer) and last.last


def can_fuse(model: nn.Module) -> bool:
    """Whether this is a model of the Llama kind in bfloat16 on a CPU that has the kernels."""
    parameter = next(model.parameters())
    return is_llama_kind(model.config) and can_compute(parameter.device, parameter.dtype)


def is_llama_kind(config: Any) -> bool:
    """Whether a family's layers, with these settings, are what one node computes."""
    if config.model_type not in FAMILIES or config.hidden_act != "silu":
        return False
    rope = getattr(config, "rope_parameters", None) or {}
    return head_width(config) % LANES == 0 and rope.get("partial_rotary_factor", 1.0) == 1.0


def can_compute(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this machine has the kernels for it."""
    return device.type == "cpu" and dtype == torch.bfloat16 and not isinstance(kernels(), Missing)


def _parts(layer: nn.Module, index: int, config: Any, buffers: Buffers, keep: bool) -> Parts:
    attention: Any = layer.self_attn
    mlp: Any = layer.mlp
    return Parts(
        index=index,
        before=_norm(layer.input_layernorm),
        qkv=_products(attention.q_proj, attention.k_proj, attention.v_proj),
        heads=heads_of(attention, config),
        output=_products(attention.o_proj),
        between=_norm(layer.post_attention_layernorm),
        gate_up=_products(mlp.gate_proj, mlp.up_proj),
        down=_products(mlp.down_proj),
        buffers=buffers,
        keep=keep,
    )


def _products(*layers: nn.Module) -> Products:
    attached: list[LoraLinear] = []
    for layer in layers:
        assert isinstance(layer, LoraLinear)
        attached.append(layer)
    return Products.of(*attached)


def heads_of(attention: Any, config: Any) -> Heads:
    """Read the shape of a layer's attention."""
    norms = (_norm(attention.q_norm), _norm(attention.k_norm)) if hasattr(attention, "q_norm") else None
    # Mistral's layers read the window from the config, the others' have one of their own.
    window = attention.sliding_window if hasattr(attention, "sliding_window") else getattr(config, "sliding_window", None)
    return Heads(
        queries=config.num_attention_heads,
        keys=config.num_key_value_heads,
        width=head_width(config),
        scale=attention.scaling,
        window=window or 0,
        norms=norms,
    )


def _norm(module: Any) -> Norm:
    return Norm(module.weight.detach(), float(module.variance_epsilon))
