"""The products that no trainer can do without, alone: base forward, base backward to its inputs, head both ways.

They are torch's, or ours on a processor without instructions for bfloat16, where torch's take ten times as long.
"""

import statistics
import time

from peers.shapes import SHAPES
from peers.trial import Found, Trial, finished, peak_bytes

PIECES = {"cpu": 1 << 24, "cuda": 1 << 26}
"""Logits alive at once, in numbers: the head goes piece by piece, as in training."""
SIDE = 8192
"""Of the square product that fills a GPU."""


def run(trial: Trial, tokens: int, supervised: int) -> Found:
    """Time them for steps of this size: every layer has weights of its own, as in training, and no memory is fresh."""
    import torch
    from torch import Tensor

    from budwood.engine.native.products import multiply

    torch.set_num_threads(trial.threads)
    shape = SHAPES[trial.shape]
    half = torch.bfloat16
    place = torch.device(trial.device)

    def some(*sides: int) -> Tensor:
        return torch.randn(sides, device=place).to(half)

    layers = [[some(*sides) for sides in shape.linears] for _ in range(shape.layers)]
    head = some(shape.vocab, shape.hidden)
    widths = {side for sides in shape.linears for side in sides}
    given = {width: some(tokens, width) for width in widths}
    made = {width: torch.empty(tokens, width, dtype=half, device=place) for width in widths}
    piece = max(1, min(supervised, PIECES[trial.device] // shape.vocab))
    logits = torch.empty(piece, shape.vocab, dtype=half, device=place)

    def layer(weights: list[Tensor]) -> None:
        for weight in weights:
            multiply(given[weight.shape[1]], weight, out=made[weight.shape[0]])

    def layer_back(weights: list[Tensor]) -> None:
        for weight in reversed(weights):
            multiply(given[weight.shape[0]], weight, back=True, out=made[weight.shape[1]])

    def step() -> float:
        finished(trial.device)
        begun = time.perf_counter()
        for weights in layers:
            layer(weights)
        for start in range(0, supervised, piece):
            hidden = given[shape.hidden][start : min(start + piece, supervised)]
            scores = multiply(hidden, head, out=logits[: len(hidden)])
            multiply(scores, head, back=True, out=made[shape.hidden][start : start + len(hidden)])
        for weights in reversed(layers):
            layer_back(weights)
        finished(trial.device)
        return time.perf_counter() - begun

    step()
    seconds = [step() for _ in range(max(5, trial.steps))]
    middle = statistics.median(seconds)
    count = len(seconds)
    peak = peak_bytes(trial.device)
    # On a CPU nothing reports it, and torch alone takes minutes where the processor has no instructions for bfloat16.
    rate = _matrix_rate(trial.device) if trial.device == "cuda" else 0.0
    return Found([middle] * count, [tokens] * count, [supervised] * count, peak, 0.0, rate)


def _matrix_rate(device: str) -> float:
    """Operations a second of a product that fills the device; the best of ten."""
    import torch

    side = SIDE
    a, b = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    out = torch.empty(side, side, dtype=torch.bfloat16, device=device)
    best = float("inf")
    for _ in range(10):
        finished(device)
        begun = time.perf_counter()
        torch.mm(a, b, out=out)
        finished(device)
        best = min(best, time.perf_counter() - begun)
    return 2.0 * side**3 / best
