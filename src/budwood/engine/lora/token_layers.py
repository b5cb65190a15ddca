"""Embedding and output head with room for adapters' token rows, each token with the rows of its own adapter.

They stand in the place of the base's own. The head's rows reach the logits in two ways: through the module, for whoever calls
the whole model, and through `head_parts`, for whoever multiplies the chosen states with the head by himself.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from budwood.engine.lora.frozen import Attached, AttachedLinear
from budwood.engine.lora.layer import Current
from budwood.engine.lora.segments import Plan, Run
from budwood.engine.lora.token_rows import Tables
from budwood.engine.quant.load import replace_module
from budwood.errors import AdapterError


@dataclass(frozen=True)
class LiveRows:
    """One slot's rows of one table: ids (n,) int64 rising, values (n, d) float32 as the optimiser sees them."""

    ids: Tensor
    values: Tensor

    def found(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Of token ids (T,), the places that have a row here, and which row each has."""
        row = torch.searchsorted(self.ids, ids).clamp_(max=len(self.ids) - 1)
        places = (self.ids[row] == ids).nonzero().flatten()
        return places, row[places]

    @property
    def size_bytes(self) -> int:
        return self.values.numel() * self.values.element_size() + self.ids.numel() * self.ids.element_size()


@dataclass(frozen=True)
class HeadPart:
    """Some of the states that enter the head, and the rows that stand in the place of the head's for them.

    Args:
        states: (m,) int64 places among the states; None: all.
        rows: None: the base's own.
    """

    states: Tensor | None
    rows: LiveRows | None

    def of(self, whole: Tensor) -> Tensor:
        """(N, …) → (m, …)."""
        return whole if self.states is None else whole.index_select(0, self.states)

    def replace(self, logits: Tensor, hidden: Tensor) -> None:
        """Put these rows' columns into logits (N, V) of states (N, d), in place."""
        if self.rows is None:
            return
        columns = self.of(hidden) @ self.rows.values.to(hidden.dtype).T
        if self.states is None:
            logits.index_copy_(1, self.rows.ids, columns)
        else:
            logits.index_put_((self.states[:, None], self.rows.ids[None]), columns)


class RowTable:
    """One table's rows by slot; of tied tables one for both.

    Args:
        path: of the module that the rows are named by.
        current: where the plan of the running forward pass stands.
    """

    def __init__(self, path: str, current: Current) -> None:
        self.path = path
        self.slots: dict[int, LiveRows] = {}
        self._current = current

    @property
    def size_bytes(self) -> int:
        return sum(rows.size_bytes for rows in self.slots.values())

    def runs(self, tokens: int) -> list[Run]:
        """Those of this pass on so many tokens whose adapter has rows here.

        Raises:
            AdapterError: the segments are for another number of tokens.
        """
        plan = self._plan()
        if plan is None:
            return []
        if plan.tokens is not None and plan.tokens != tokens:
            raise AdapterError(
                f"Segments are for {plan.tokens} tokens, {self.path} got {tokens}.",
                where="a batch of mixed adapters",
                mend="Make the segments from the batch that is run.",
            )
        return [run for run in plan.runs if run.slot in self.slots]

    def parts(self, count: int, tokens: Tensor | None) -> list[HeadPart]:
        """Share out `count` states that enter the head, those of `tokens` (None: of all), by the rows that they meet.

        Raises:
            AdapterError: as `runs`, where no tokens are named.
        """
        plan = self._plan()
        if plan is None:
            return [HeadPart(None, None)]
        if plan.tokens is None:
            return [HeadPart(None, self.slots[run.slot]) for run in plan.runs]
        runs = self.runs(count if tokens is None else plan.tokens)
        device = self.slots[runs[0].slot].ids.device if runs else None
        chosen = torch.arange(count, device=device) if tokens is None else tokens
        parts, left = [], torch.ones(count, dtype=torch.bool, device=chosen.device)
        for run in runs:
            inside = (chosen >= run.start) & (chosen < (plan.tokens if run.end is None else run.end))
            left &= ~inside
            parts.append(HeadPart(inside.nonzero().flatten(), self.slots[run.slot]))
        return [*parts, HeadPart(left.nonzero().flatten(), None)]

    def _plan(self) -> Plan | None:
        plan = self._current.plan
        return plan if plan is not None and any(run.slot in self.slots for run in plan.runs) else None


class TokenEmbedding(Attached):
    """An embedding with room for rows. Made by `AdapterBank.attach`.

    A trained row gets its whole gradient, that of the padding token too, which packed rows contain only as a token in its own
    right.
    """

    def __init__(self, base: nn.Module, table: RowTable) -> None:
        super().__init__(base)
        self.table = table

    @property
    def weight(self) -> Tensor:
        """The frozen weight."""
        return self.base.weight  # type: ignore[return-value]  # an nn.Module attribute

    def forward(self, ids: Tensor) -> Tensor:
        """(…) int64 → (…, d)."""
        runs = self.table.runs(ids.numel())
        if not runs:
            return self.base(ids)  # type: ignore[no-any-return]  # nn.Module.__call__
        flat = ids.reshape(-1)
        y: Tensor = self.base(flat)
        scale = getattr(self.base, "embed_scale", None)
        for run in runs:
            rows = self.table.slots[run.slot]
            places, row = rows.found(flat[run.start : run.end])
            # Picked in float32: their gradients are added up in it, however often a token occurs.
            picked = rows.values.index_select(0, row).to(y.dtype)
            y.index_copy_(0, places + run.start, picked if scale is None else picked * scale.to(y.dtype))
        return y.view(*ids.shape, -1)


class TokenHead(AttachedLinear):
    """An output head with room for rows. Made by `AdapterBank.attach`."""

    def __init__(self, base: nn.Module, table: RowTable) -> None:
        super().__init__(base)
        self.table = table

    @property
    def weight(self) -> Tensor:
        """The frozen weight."""
        return self.base.weight  # type: ignore[return-value]  # an nn.Module attribute

    @property
    def bias(self) -> Tensor | None:
        return getattr(self.base, "bias", None)

    def forward(self, x: Tensor) -> Tensor:
        """(…, d) → (…, V) of all tokens of the pass."""
        flat = x.reshape(-1, x.shape[-1])
        y: Tensor = self.base(flat)
        for part in self.table.parts(len(flat), None):
            part.replace(y, flat)
        return y.view(*x.shape[:-1], -1)


def head_parts(model: nn.Module, count: int, tokens: Tensor | None = None) -> list[HeadPart]:
    """Share out states that a model's head is about to meet by the rows that they meet there.

    Args:
        model: with or without a bank.
        count: of the states.
        tokens: (count,) int64, which tokens of the pass they belong to; None: all of them in order.
    """
    head = model.get_output_embeddings()  # type: ignore[operator]  # nn.Module types every attribute as Tensor | Module
    return head.table.parts(count, tokens) if isinstance(head, TokenHead) else [HeadPart(None, None)]


def attach_tables(model: nn.Module, tables: Tables, current: Current) -> dict[str, RowTable]:
    """Put modules with room for rows in the place of embedding and head; give path → rows."""
    found = {path: RowTable(path, current) for path in tables.own}
    embedding, head = model.get_submodule(tables.embedding), model.get_submodule(tables.head)
    replace_module(model, tables.embedding, TokenEmbedding(embedding, found[tables.embedding]))
    replace_module(model, tables.head, TokenHead(head, found.get(tables.head, found[tables.embedding])))
    return found


def detach_tables(model: nn.Module, tables: Tables) -> None:
    """Put the base's own back."""
    for path in (tables.embedding, tables.head):
        module = model.get_submodule(path)
        assert isinstance(module, Attached)
        replace_module(model, path, module.base)
