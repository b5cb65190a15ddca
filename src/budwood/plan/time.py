"""How long a training takes: operations, counted from the row lengths, over the measured rate.

A token costs 4 operations a weight with LoRA (forward 2, gradient of the input 2), 6 with full fine-tuning (gradient of the
weight 2), 6 for each of the adapter's own weights; attention 12 · q · s / 2 a layer (causal); the head only where a
token is supervised. QLoRA expands every 4-bit weight twice in each pass.
"""

from dataclasses import dataclass

from budwood.plan.lengths import Lengths
from budwood.plan.machine import Machine
from budwood.plan.memory import Checkpointing, Method
from budwood.plan.shape import BaseShape

EFFICIENCY = {"float32": 0.6, "bfloat16": 0.45}
"""Share of the matmul rate that a whole step reaches; the rest goes to norms, attention and the optimiser. Measured in CPU
seconds of one thread on the bundled base (LoRA, 2,048 tokens): 52 of 87 and 87 of 188 G operations/s."""
FUSED_EFFICIENCY = 0.65
"""The same where each layer is one node (benchmarks/train_vs_peers.py, 135M parameters); larger bases reach more."""


@dataclass(frozen=True)
class Work:
    """What there is to do.

    Args:
        lengths: of the rows.
        epochs: passes over them.
        validations: passes over the validation rows.
        tokens_per_pass: budget of a forward and backward pass.
        precision: "float32" or "bfloat16".
        fused: each layer is one node.
        checkpointing: "layer": every layer goes forward twice in training.
    """

    lengths: Lengths
    epochs: float
    validations: int
    tokens_per_pass: int
    precision: str
    fused: bool = False
    checkpointing: Checkpointing = "none"


def operations(method: Method, shape: BaseShape, trainable: int, work: Work) -> float:
    """Count multiplications and additions of all steps and validations."""
    lengths = work.lengths
    tokens, supervised = lengths.tokens, lengths.tokens * lengths.supervised
    base, own = (6, 0) if method == "full" else (4, 6)
    head = 6 if method == "full" else 4
    base += 2 if work.checkpointing == "layer" else 0
    epoch = base * shape.active * tokens + own * trainable * tokens
    epoch += head * shape.vocab * shape.hidden * supervised
    epoch += 6 * shape.layers * shape.query * lengths.squares
    forward = 2 * shape.active + 2 * shape.vocab * shape.hidden * lengths.supervised
    return work.epochs * epoch + work.validations * forward * lengths.validation_tokens


def seconds(method: Method, shape: BaseShape, trainable: int, work: Work, machine: Machine) -> float:
    """Predict the time of the steps and validations. Full fine-tuning multiplies in the same precision."""
    share = FUSED_EFFICIENCY if work.fused else EFFICIENCY[work.precision]
    computing = operations(method, shape, trainable, work) / (machine.matmul[work.precision] * share)
    if method != "qlora":
        return computing
    passes = work.epochs * work.lengths.tokens / work.tokens_per_pass
    validating = work.validations * work.lengths.validation_tokens / work.tokens_per_pass
    expanded = 3 if work.checkpointing == "layer" else 2
    return computing + (expanded * passes + validating) * shape.linear_parameters / machine.dequantized_per_s
