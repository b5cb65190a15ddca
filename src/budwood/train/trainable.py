"""What is trained: an adapter on a frozen base, or all weights of the base."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from budwood.engine.attention import packed_attention_way
from budwood.engine.base import head_weight, hidden_states, logit_softcap
from budwood.engine.compiled import compile_layers, compiling, complaint, trial_batch, uncompile
from budwood.engine.fused import fuse
from budwood.engine.lora import Adapter, AdapterBank, head_parts, plain
from budwood.engine.loss import supervised_loss
from budwood.engine.product_lengths import length_multiple
from budwood.engine.recompute import Note, recompute
from budwood.train.settings import Checkpointing

if TYPE_CHECKING:
    from budwood.engine.packed import PackedBatch

FUSED = "fused layers"
"""What the way of layers that are one node each begins with."""


class Trainable(Protocol):
    """Something with parameters and a loss."""

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Float32, by a name that is the same in every process."""
        ...

    @property
    def way(self) -> str:
        """How it computes, in words: other ways round otherwise."""
        ...

    @property
    def multiple(self) -> int:
        """What it wants a batch's number of tokens rounded up to."""
        ...

    @property
    def uncompiled(self) -> str | None:
        """Why its layers are not compiled although they should be; None also where nobody asked."""
        ...

    def loss_sum(self, batch: "PackedBatch", *, dropout: torch.Generator | None) -> Tensor:
        """Sum of the cross-entropy over the batch's supervised tokens, in nats."""
        ...

    def skip(self, dropout: torch.Generator) -> None:
        """Draw what a pass would draw, for one that another process computes."""
        ...


class AdapterTraining:
    """An adapter over a frozen base. `release` puts the base back as it was.

    Args:
        model: the base.
        adapter: to start from.
        checkpointing: "layer": each layer keeps its input alone and is computed again on the way back, to the same bytes.
        compiled: have torch.compile fuse what lies between our own nodes, unless the layers are single nodes already. Where
            the compiler fails, `uncompiled` says how, and training goes on without it.
    """

    KEY = "training"

    def __init__(
        self, model: nn.Module, adapter: Adapter, *, checkpointing: Checkpointing = "none", compiled: bool = False
    ) -> None:
        self._model = model
        self._bank = AdapterBank.attach(model)
        self._slot = self._bank.add(self.KEY, adapter, trainable=True)
        self._parameters = self._bank.named_parameters(self.KEY)
        self._compiled = False
        self.uncompiled: str | None = None
        self._fused = not adapter.config.dora and fuse(model, keep=checkpointing == "none")
        if not self._fused:
            self.uncompiled = _arrange(model, self._bank.note, self._try, checkpointing=checkpointing, compiled=compiled)
            self._compiled = compiled and self.uncompiled is None

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        return self._parameters

    @property
    def way(self) -> str:
        way = _way(self._model, _first(self._model).dtype, self._compiled)
        return f"{FUSED}, attention: {way}" if self._fused else way

    @property
    def multiple(self) -> int:
        first = _first(self._model)
        return length_multiple(first.device, first.dtype)

    def loss_sum(self, batch: "PackedBatch", *, dropout: torch.Generator | None) -> Tensor:
        with self._bank.use(self._slot, dropout=dropout), compiling() if self._compiled else nullcontext():
            return _loss_sum(self._model, batch)

    def skip(self, dropout: torch.Generator) -> None:
        with self._bank.use(self._slot, dropout=dropout):
            pass

    def adapter(self) -> Adapter:
        """Copy the adapter out as it stands, as a plain one."""
        return plain(self._bank.adapter(self.KEY))

    def release(self) -> None:
        uncompile(self._model)
        self._bank.detach(self._model)

    def _try(self) -> None:
        _try(self, self._model)


class FullTraining:
    """All weights of a base, held in float32.

    Args:
        model: loaded in float32.
        precision: with bfloat16 the products are made in it, the weights and the optimiser stay in float32.
        checkpointing: as for an adapter.
        compiled: as for an adapter.
    """

    def __init__(
        self, model: nn.Module, precision: torch.dtype, *, checkpointing: Checkpointing = "none", compiled: bool = False
    ) -> None:
        model.requires_grad_(True)
        self._model = model
        self._precision = precision
        self._parameters = dict(model.named_parameters())
        self._compiled = False
        self.uncompiled = _arrange(model, lambda: nullcontext, self._try, checkpointing=checkpointing, compiled=compiled)
        self._compiled = compiled and self.uncompiled is None

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        return self._parameters

    @property
    def way(self) -> str:
        return _way(self._model, self._precision, self._compiled)

    @property
    def multiple(self) -> int:
        return length_multiple(_first(self._model).device, self._precision)

    def loss_sum(self, batch: "PackedBatch", *, dropout: torch.Generator | None) -> Tensor:
        with self._casting(batch.input_ids.device.type), compiling() if self._compiled else nullcontext():
            return _loss_sum(self._model, batch)

    def skip(self, dropout: torch.Generator) -> None:
        """Nothing is drawn."""

    def release(self) -> None:
        """Put the model's own layers back."""
        uncompile(self._model)

    def _try(self) -> None:
        _try(self, self._model)

    def _casting(self, device: str) -> AbstractContextManager[object]:
        if self._precision == torch.float32:
            return nullcontext()
        return torch.autocast(device, self._precision)


def _arrange(
    model: nn.Module, note: Note, trial: Callable[[], None], *, checkpointing: Checkpointing, compiled: bool
) -> str | None:
    """Put compiled layers, and layers that are computed twice, in place as asked; give why none are compiled although asked."""
    fault = None
    if compiled:
        compile_layers(model)
        if checkpointing == "layer":
            recompute(model, note)
        fault = complaint(trial)
        if fault is None:
            return None
        uncompile(model)
    if checkpointing == "layer":
        recompute(model, note)
    return fault


def _try(training: Trainable, model: nn.Module) -> None:
    """Go through a small pass with gradients and one without, and leave nothing behind."""
    batch = trial_batch(model, _first(model).device)
    with torch.enable_grad():
        training.loss_sum(batch, dropout=torch.Generator()).backward()  # type: ignore[no-untyped-call]  # torch has no types here
    with torch.no_grad():
        training.loss_sum(batch, dropout=None)
    for parameter in training.parameters.values():
        parameter.grad = None


def _way(model: nn.Module, dtype: torch.dtype, compiled: bool) -> str:
    attention = packed_attention_way(_first(model).device, dtype, model.config)
    return f"compiled layers, attention: {attention}" if compiled else attention


def _first(model: nn.Module) -> nn.Parameter:
    return next(model.parameters())


def _loss_sum(model: nn.Module, batch: "PackedBatch") -> Tensor:
    hidden = hidden_states(model, batch, only=batch.asked)[: len(batch.targets)]
    head, softcap = head_weight(model).to(hidden.dtype), logit_softcap(model)
    # To look at the targets is to wait for a GPU; the embedding has looked each of them up without complaint.
    known = batch.targets.device.type == "cuda"
    losses = []
    for part in head_parts(model, len(hidden), batch.supervised):
        rows = None if part.rows is None else (part.rows.ids, part.rows.values)
        losses.append(supervised_loss(part.of(hidden), head, part.of(batch.targets), softcap=softcap, rows=rows, known=known))
    return losses[0] if len(losses) == 1 else torch.stack(losses).sum()
