"""What is trained: an adapter on a frozen base, or all weights of the base."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from budwood.engine.attention import packed_attention_way
from budwood.engine.base import head_weight, hidden_states, logit_softcap
from budwood.engine.fused import fuse
from budwood.engine.layers import put_back
from budwood.engine.lora import Adapter, AdapterBank, head_parts, plain
from budwood.engine.loss import supervised_loss
from budwood.engine.recompute import recompute
from budwood.train.settings import Checkpointing

if TYPE_CHECKING:
    from budwood.engine.packed import PackedBatch


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
    """

    KEY = "training"

    def __init__(self, model: nn.Module, adapter: Adapter, *, checkpointing: Checkpointing = "none") -> None:
        self._model = model
        self._bank = AdapterBank.attach(model)
        self._slot = self._bank.add(self.KEY, adapter, trainable=True)
        self._parameters = self._bank.named_parameters(self.KEY)
        self._fused = not adapter.config.dora and fuse(model, keep=checkpointing == "none")
        if checkpointing == "layer" and not self._fused:
            recompute(model, self._bank.note)

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        return self._parameters

    @property
    def way(self) -> str:
        first = next(self._model.parameters())
        return "fused layers" if self._fused else packed_attention_way(first.device, first.dtype)

    def loss_sum(self, batch: "PackedBatch", *, dropout: torch.Generator | None) -> Tensor:
        with self._bank.use(self._slot, dropout=dropout):
            return _loss_sum(self._model, batch)

    def skip(self, dropout: torch.Generator) -> None:
        with self._bank.use(self._slot, dropout=dropout):
            pass

    def adapter(self) -> Adapter:
        """Copy the adapter out as it stands, as a plain one."""
        return plain(self._bank.adapter(self.KEY))

    def release(self) -> None:
        put_back(self._model)
        self._bank.detach(self._model)


class FullTraining:
    """All weights of a base, held in float32.

    Args:
        model: loaded in float32.
        precision: with bfloat16 the products are made in it, the weights and the optimiser stay in float32.
        checkpointing: as for an adapter.
    """

    def __init__(self, model: nn.Module, precision: torch.dtype, *, checkpointing: Checkpointing = "none") -> None:
        model.requires_grad_(True)
        if checkpointing == "layer":
            recompute(model, lambda: nullcontext)
        self._model = model
        self._precision = precision
        self._parameters = dict(model.named_parameters())

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        return self._parameters

    @property
    def way(self) -> str:
        return packed_attention_way(next(self._model.parameters()).device, self._precision)

    def loss_sum(self, batch: "PackedBatch", *, dropout: torch.Generator | None) -> Tensor:
        with self._casting(batch.input_ids.device.type):
            return _loss_sum(self._model, batch)

    def skip(self, dropout: torch.Generator) -> None:
        """Nothing is drawn."""

    def release(self) -> None:
        """Put the model's own layers back."""
        put_back(self._model)

    def _casting(self, device: str) -> AbstractContextManager[object]:
        if self._precision == torch.float32:
            return nullcontext()
        return torch.autocast(device, self._precision)


def _loss_sum(model: nn.Module, batch: "PackedBatch") -> Tensor:
    hidden = hidden_states(model, batch, only=batch.supervised)
    head, softcap = head_weight(model).to(hidden.dtype), logit_softcap(model)
    losses = []
    for part in head_parts(model, len(hidden), batch.supervised):
        rows = None if part.rows is None else (part.rows.ids, part.rows.values)
        losses.append(supervised_loss(part.of(hidden), head, part.of(batch.targets), softcap=softcap, rows=rows))
    return losses[0] if len(losses) == 1 else torch.stack(losses).sum()
