"""Peak memory of a training, term by term, with bounds.

peak = weights + adapter or optimiser state + saved activations + logits + buffers + runtime, or, where that is more, what
loading takes. The formulas are those of our own engine: rows packed, logits at supervised positions only and in pieces, frozen
weights without gradients, 4-bit weights expanded into one buffer.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from budwood.plan.shape import BaseShape

Method = Literal["lora", "qlora", "full"]
Checkpointing = Literal["none", "layer"]

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes a weight: 4 bits, one byte of absmax a block of 64, one float for 256 blocks."""
INT8_BYTES = 1.0
"""Bytes a weight; a scale of 4 bytes a row comes on top."""
LOGIT_PIECE = 512
"""Supervised positions whose logits are alive at once (engine.loss)."""
RUNTIME = {"cpu": (0.5e9, 0.65e9, 0.9e9), "cuda": (0.3e9, 0.6e9, 1.2e9)}
"""Python, torch and transformers, or the CUDA context: the CPU's is calibrated by benchmarks/train_speed.py
(torch 2.13, Linux), the GPU's is judgement."""


class Bounds(NamedTuple):
    """Bytes."""

    low: float
    expected: float
    high: float

    def plus(self, other: "Bounds") -> "Bounds":
        return Bounds(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True)
class Term:
    """One part of the peak, and what moves it."""

    name: str
    bytes: Bounds
    knob: str

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "bytes": self.bytes._asdict(), "knob": self.knob}


@dataclass(frozen=True)
class Load:
    """What a training asks of memory, besides the base.

    Args:
        trainable: parameters that are trained.
        tokens: of the largest pass.
        supervised: share of tokens in the loss.
        compute_bytes: 2 (bfloat16) or 4 (float32) a number.
        bits: of a weight with qlora.
        keeps_best: a copy of the best weights is held.
        fused: each layer is one node (engine.fused).
        checkpointing: "layer": of each layer its input alone is kept.
        device: "cpu" or "cuda".
    """

    trainable: int
    tokens: int
    supervised: float
    compute_bytes: int
    keeps_best: bool
    bits: Literal[4, 8] = 4
    fused: bool = False
    checkpointing: Checkpointing = "none"
    device: Literal["cpu", "cuda"] = "cpu"


def memory_terms(method: Method, shape: BaseShape, load: Load) -> tuple[Term, ...]:
    """Give the terms that add up to the peak of the steps."""
    return (
        Term("weights", exact(weight_bytes(method, shape, load.compute_bytes, load.bits)), "method, precision"),
        Term("optimiser", exact(state_bytes(method, load)), "rank, target_modules"),
        Term("activations", _activations(shape, load), "tokens_per_pass, precision"),
        Term("logits", _logits(method, shape, load), "tokens_per_pass"),
        Term("buffers", exact(_buffer(method, shape, load)), "method"),
        Term("runtime", Bounds(*RUNTIME[load.device]), ""),
    )


def peak(method: Method, shape: BaseShape, load: Load, terms: tuple[Term, ...]) -> Bounds:
    """Add up the terms; a mixture's experts are joined while it is read, so that QLoRA holds its float weights first."""
    total = Bounds(0, 0, 0)
    for term in terms:
        total = total.plus(term.bytes)
    if method != "qlora" or not shape.expert_parameters:
        return total
    loading = exact(shape.parameters * load.compute_bytes).plus(Bounds(*RUNTIME[load.device]))
    return Bounds(*(max(a, b) for a, b in zip(total, loading, strict=True)))


def weight_bytes(method: Method, shape: BaseShape, compute_bytes: int, bits: Literal[4, 8] = 4) -> float:
    """The base's weights: full fine-tuning holds float32, QLoRA the linear layers in 4 or 8 bits."""
    if method == "full":
        return 4.0 * shape.parameters
    if method == "lora":
        return float(compute_bytes * shape.parameters)
    linear = shape.linear_parameters
    rows = sum(d_out for d_out, _ in shape.linears.values())
    stored = NF4_BYTES * linear if bits == 4 else INT8_BYTES * linear + 4 * rows
    return stored + compute_bytes * (shape.parameters - linear)


def state_bytes(method: Method, load: Load) -> float:
    """Gradients 4, AdamW's moments 8, a copy of the best 4; an adapter's own weights 4 besides (full: in the weights)."""
    per_parameter = 12 + (4 if load.keeps_best else 0) + (0 if method == "full" else 4)
    return float(per_parameter * load.trainable)


def exact(value: float) -> Bounds:
    return Bounds(value, value, value)


def _activations(shape: BaseShape, load: Load) -> Bounds:
    """What the layers keep for the way back: all of them, or their inputs and one layer."""
    one = _fused_layer(shape, load) if load.fused else _layer(shape, load)
    layers = shape.layers
    if load.checkpointing == "none":
        return Bounds(*(layers * size for size in one))
    inputs = exact(layers * load.compute_bytes * load.tokens * shape.hidden)
    return inputs.plus(one)


def _layer(shape: BaseShape, load: Load) -> Bounds:
    """C · T · (12 h + 3 q + kv + 3 f): fitcheck's live layer.

    Our engine saves 0.85 of that in float32 and 0.94 in bfloat16, measured on the bundled base; temporaries come on top.
    """
    width = 12 * shape.hidden + 3 * shape.query + shape.key + 3 * shape.ffn
    expected = float(load.compute_bytes * load.tokens * width)
    return Bounds(0.85 * expected, expected, 1.3 * expected)


def _fused_layer(shape: BaseShape, load: Load) -> Bounds:
    """Input, joint q/k/v, attention's result, the sum after it, gate and up; what all layers share comes on top."""
    width = 2 * shape.hidden + 2 * shape.query + 2 * shape.key + 2 * shape.ffn
    expected = float(load.compute_bytes * load.tokens * width)
    return Bounds(expected, 1.08 * expected, 1.3 * expected)


def _logits(method: Method, shape: BaseShape, load: Load) -> Bounds:
    """Two to four float32 copies of one piece of logits; full fine-tuning holds the head's gradient twice besides."""
    positions = min(LOGIT_PIECE, max(1.0, load.supervised * load.tokens))
    copy = 4 * positions * shape.vocab
    head = 8.0 * shape.vocab * shape.hidden if method == "full" else 0.0
    return Bounds(2 * copy + head, 3 * copy + head, 4 * copy + head)


def _buffer(method: Method, shape: BaseShape, load: Load) -> float:
    """QLoRA expands one weight at a time: the largest."""
    if method != "qlora":
        return 0.0
    return float(load.compute_bytes * max(d_out * d_in for d_out, d_in in shape.linears.values()))
