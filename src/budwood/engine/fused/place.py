"""Which models' layers can be one node each, and putting such layers in their place and back.

A fused layer keeps the names of the layer that it stands for, so module paths stay what they were, and it hands on to that
layer whatever it cannot do itself.
"""

from typing import Any

import torch
from torch import Tensor, nn

from budwood.engine.fused.layer import Buffers, Heads, Norm, Pairs, Parts, Pass, decoder_layer
from budwood.engine.fused.products import Products
from budwood.engine.lora.layer import LoraLinear
from budwood.engine.native.attention import LANES
from budwood.engine.native.build import Missing, kernels
from budwood.engine.packed import Layout

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


class FusedLayer(nn.Module):
    """A decoder layer as one node. Made by `fuse`; its children are those of the layer that it stands for."""

    def __init__(self, layer: nn.Module, index: int, config: Any, buffers: Buffers, *, keep: bool) -> None:
        super().__init__()
        for name, child in layer.named_children():
            self.add_module(name, child)
        self._held = (layer,)  # not a child: its own would appear twice
        self._parts = _parts(layer, index, config, buffers, keep)

    @property
    def original(self) -> nn.Module:
        return self._held[0]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # What the model asks its layers for beside calling them, such as the kind of their attention.
            return getattr(super().__getattribute__("_held")[0], name)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        layout: Layout | None = None,
        **others: Any,
    ) -> Tensor:
        """(1, T, d) → (1, T, d), as the layer that it stands for."""
        if layout is None or position_embeddings is None or attention_mask is not None or others.get("kv") is not None:
            found: Tensor = self.original(
                hidden_states, attention_mask=attention_mask, position_embeddings=position_embeddings, layout=layout, **others
            )
            return found
        cosine, sine = (table[0].contiguous() for table in position_embeddings)
        x = hidden_states[0]
        parts = self._parts
        pairs = Pairs(*(products.active(x) for products in (parts.qkv, parts.output, parts.gate_up, parts.down)))
        return decoder_layer(x.contiguous(), parts, Pass(cosine, sine, layout.cu_seqlens), pairs)[None]


def fuse(model: nn.Module, *, keep: bool = True) -> bool:
    """Put fused layers in place of a model's own; say whether that was possible.

    Args:
        model: with a bank attached.
        keep: what the way back needs; False: only each layer's input, all else is made again.
    """
    if not can_fuse(model):
        return False
    layers = _layers(model)
    buffers = Buffers()
    for index, layer in enumerate(layers):
        layers[index] = FusedLayer(layer, index, model.config, buffers, keep=keep)
    return True


def unfuse(model: nn.Module) -> None:
    """Put a model's own layers back."""
    layers = _layers(model)
    for index, layer in enumerate(layers):
        if isinstance(layer, FusedLayer):
            layers[index] = layer.original


def can_fuse(model: nn.Module) -> bool:
    """Whether this is a model of the Llama kind in bfloat16 on a CPU that has the kernels."""
    config: Any = model.config
    if config.model_type not in FAMILIES or config.hidden_act != "silu" or isinstance(kernels(), Missing):
        return False
    parameter = next(model.parameters())
    if parameter.device.type != "cpu" or parameter.dtype != torch.bfloat16:
        return False
    width = _head_width(config)
    return width % LANES == 0 and _rotated_width(model) == width


def _layers(model: nn.Module) -> nn.ModuleList:
    layers = model.get_submodule("model.layers")
    assert isinstance(layers, nn.ModuleList)
    return layers


def _parts(layer: nn.Module, index: int, config: Any, buffers: Buffers, keep: bool) -> Parts:
    attention: Any = layer.self_attn
    mlp: Any = layer.mlp
    return Parts(
        index=index,
        before=_norm(layer.input_layernorm),
        qkv=_products(attention.q_proj, attention.k_proj, attention.v_proj),
        heads=_heads(attention, config),
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


def _heads(attention: Any, config: Any) -> Heads:
    norms = (_norm(attention.q_norm), _norm(attention.k_norm)) if hasattr(attention, "q_norm") else None
    # Mistral's layers read the window from the config, the others' have one of their own.
    window = attention.sliding_window if hasattr(attention, "sliding_window") else getattr(config, "sliding_window", None)
    return Heads(
        queries=config.num_attention_heads,
        keys=config.num_key_value_heads,
        width=_head_width(config),
        scale=attention.scaling,
        window=window or 0,
        norms=norms,
    )


def _norm(module: Any) -> Norm:
    return Norm(module.weight.detach(), float(module.variance_epsilon))


def _head_width(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _rotated_width(model: nn.Module) -> int:
    frequencies: Tensor = model.get_submodule("model.rotary_emb").inv_freq  # type: ignore[assignment]  # a buffer
    return 2 * len(frequencies)
