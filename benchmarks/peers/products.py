"""The products that no trainer can do without, alone: base forward, base backward to its inputs, head both ways."""

import statistics
import time

from peers.shapes import SHAPES
from peers.trial import Found, Trial, peak_bytes

PIECE = 1 << 24
"""Logits alive at once, in numbers: the head goes piece by piece, as in training."""


def run(trial: Trial, tokens: int, supervised: int) -> Found:
    """Time them for steps of this size: every layer has weights of its own, as in training, and no memory is fresh."""
    import torch
    from torch import Tensor

    torch.set_num_threads(trial.threads)
    shape = SHAPES[trial.shape]
    half = torch.bfloat16
    layers = [[torch.randn(sides).to(half) for sides in shape.linears] for _ in range(shape.layers)]
    head = torch.randn(shape.vocab, shape.hidden).to(half)
    widths = {side for sides in shape.linears for side in sides}
    given = {width: torch.randn(tokens, width).to(half) for width in widths}
    made = {width: torch.empty(tokens, width, dtype=half) for width in widths}
    piece = max(1, min(supervised, PIECE // shape.vocab))
    logits = torch.empty(piece, shape.vocab, dtype=half)

    def layer(weights: list[Tensor]) -> None:
        for weight in weights:
            torch.mm(given[weight.shape[1]], weight.T, out=made[weight.shape[0]])

    def layer_back(weights: list[Tensor]) -> None:
        for weight in reversed(weights):
            torch.mm(given[weight.shape[0]], weight, out=made[weight.shape[1]])

    def step() -> float:
        begun = time.perf_counter()
        for weights in layers:
            layer(weights)
        for start in range(0, supervised, piece):
            hidden = given[shape.hidden][start : min(start + piece, supervised)]
            scores = torch.mm(hidden, head.T, out=logits[: len(hidden)])
            torch.mm(scores, head, out=made[shape.hidden][start : start + len(hidden)])
        for weights in reversed(layers):
            layer_back(weights)
        return time.perf_counter() - begun

    step()
    seconds = [step() for _ in range(max(5, trial.steps))]
    middle = statistics.median(seconds)
    return Found([middle] * len(seconds), [tokens] * len(seconds), [supervised] * len(seconds), peak_bytes(), 0.0)
