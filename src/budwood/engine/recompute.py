"""Layers that keep their input alone and are computed again on the way back (activation checkpointing).

The second time gives the bytes of the first: dropout is drawn by name, and which adapter works on which token is noted when the
layer runs, since the way back may come after whoever said so.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from budwood.engine.layers import StandIn, decoder_layers

Note = Callable[[], Callable[[], AbstractContextManager[None]]]
"""Called when a layer runs; what it gives brings the same circumstances back."""


class RecomputedLayer(StandIn):
    """A decoder layer that is computed twice. Made by `recompute`."""

    def __init__(self, layer: nn.Module, note: Note) -> None:
        super().__init__(layer)
        self._note = note

    def forward(self, hidden_states: Tensor, *others: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.original(hidden_states, *others, **named)
        again = self._note()

        def run(states: Tensor) -> Any:
            with again():
                return self.original(states, *others, **named)

        return checkpoint(run, hidden_states, use_reentrant=False, preserve_rng_state=False)


def recompute(model: nn.Module, note: Note) -> None:
    """Let every decoder layer keep its input alone."""
    layers = decoder_layers(model)
    for index, layer in enumerate(layers):
        layers[index] = RecomputedLayer(layer, note)
