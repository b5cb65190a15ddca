"""Decoder layers compiled by torch.compile, region by region, where the user or the device asks for it.

What lies between our own nodes (linear layers with their pairs, quantised products, attention) is fused by the compiler:
norms, rotation, activations, residual sums. Our nodes stay as they are; around them a layer falls into regions, and layers of
one kind share each region's code. Compiled code is kept in the user's cache, so that the next process compiles little again.

A compiler can fail in any way, so a model is tried before it is trusted: `complaint` runs a pass and says what went wrong.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from budwood.engine.families import context_length
from budwood.engine.layers import StandIn, decoder_layers, put_back
from budwood.engine.lora.frozen import AttachedLinear
from budwood.engine.native.build import cache_folder
from budwood.engine.packed import Encoded, PackedBatch, pack
from budwood.engine.quant.linear import QuantizedLinear

CACHE = "TORCHINDUCTOR_CACHE_DIR"
LIMITS = {"recompile_limit": 64, "accumulated_recompile_limit": 4096, "fail_on_recompile_limit_hit": True}
"""torch's own limit is 8 variants of a region, and past it goes on uncompiled, which rounds otherwise, without a word that
counts. With and without gradients, for two kinds of attention, there are about as many."""
TRIAL = (300, 212)
"""Tokens of the rows that a model is tried on: always the same, because the compiler lays out loops by the first sizes."""


class CompiledLayer(StandIn):
    """A decoder layer that is run by compiled code. Made by `compile_layers`."""

    def __init__(self, layer: nn.Module, run: Callable[..., Any]) -> None:
        super().__init__(layer)
        self._run = run

    def forward(self, *states: Any, **named: Any) -> Any:
        return self._run(self.original, *states, **named)


def compile_layers(model: nn.Module) -> None:
    """Put compiled layers in the place of a model's own. Nothing is compiled before they run: `complaint` makes them.

    Args:
        model: with its bank attached, if it gets one.
    """
    os.environ.setdefault(CACHE, str(cache_folder().parent / "compiled"))
    _take_attention_apart()
    for module in model.modules():
        if isinstance(module, AttachedLinear | QuantizedLinear):
            module.forward = torch.compiler.disable(module.forward)  # type: ignore[method-assign, no-untyped-call]  # see `uncompile`
        if isinstance(module, QuantizedLinear):
            module.workspace.compiled = True
    run = torch.compile(_run_layer, dynamic=True, options=_options())
    layers = decoder_layers(model)
    for index, layer in enumerate(layers):
        layers[index] = CompiledLayer(layer, run)


def uncompile(model: nn.Module) -> None:
    """Put a model's own layers back, and let its linear layers be seen again."""
    put_back(model)
    for module in model.modules():
        if isinstance(module, AttachedLinear | QuantizedLinear):
            vars(module).pop("forward", None)
        if isinstance(module, QuantizedLinear):
            module.workspace.compiled = False


def complaint(work: Callable[[], object]) -> str | None:
    """Do something with a compiled model; give what a compiler complains of, in a line, or None.

    Raises:
        Exception: whatever is no compiler's fault.
    """
    try:
        with compiling():
            work()
    except compiler_errors() as error:
        return told(error)
    return None


@contextmanager
def compiling() -> Iterator[None]:
    """Hold torch to our limits while compiled layers run, and keep what it warns its own developers of to itself."""
    import torch._dynamo

    patch: Any = torch._dynamo.config.patch  # its config has no annotations
    with patch(LIMITS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def compiler_errors() -> tuple[type[Exception], ...]:
    """What a failing compiler raises, whichever part of it fails."""
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
    from torch._inductor.exc import InvalidCxxCompiler

    return (TorchDynamoException, FailOnRecompileLimitHit, InvalidCxxCompiler)


def told(error: Exception) -> str:
    """A compiler's complaint in one line, without what is said to its developers."""
    cause = getattr(error, "inner_exception", error)
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0][:200]}" if lines else type(cause).__name__


def trial_batch(model: nn.Module, device: torch.device) -> PackedBatch:
    """Two rows of any tokens, half of them supervised: what compiled layers are made on, the same in every process."""
    config: Any = model.config
    limit = context_length(config)
    rows = [_row(min(length, limit), int(config.vocab_size)) for length in TRIAL]
    return pack(rows, device)


def _row(length: int, vocabulary: int) -> Encoded:
    return Encoded(tuple(place % vocabulary for place in range(length)), tuple(place % 2 == 0 for place in range(length)))


def _run_layer(layer: nn.Module, *states: Any, **named: Any) -> Any:
    return layer(*states, **named)


def _options() -> dict[str, Any]:
    """Have the compiler choose without timing anything, where it can: a choice that timing makes may differ next time."""
    import torch._inductor

    return {"deterministic": True} if "deterministic" in torch._inductor.list_options() else {}


@cache
def _take_attention_apart() -> None:
    """Let attention be a node of its own for the compiler; once a process, and no other model notices."""
    from transformers import AttentionInterface

    from budwood.engine.attention import NAME, attention

    apart: Callable[..., tuple[Tensor, None]] = torch.compiler.disable(attention)  # type: ignore[no-untyped-call]  # torch
    AttentionInterface.register(NAME, apart)
