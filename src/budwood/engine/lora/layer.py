"""LoraLinear: stands in the place of a linear layer and adds what each token's own adapter contributes.

Without a plan it is the layer that it replaced. Which adapter works on which token is said by the bank (`AdapterBank.use`),
once for all layers. Fusing q/k/v or gate/up later means another module over several `Frozen` layers and the same pairs.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from budwood.engine.lora.dora import dora_product, row_scale, scaled_rows
from budwood.engine.lora.frozen import AttachedLinear, frozen_linear, linear_shape
from budwood.engine.lora.pairs import RunPair
from budwood.engine.lora.product import add_run, lora_product
from budwood.engine.lora.segments import Padded, Plan, Run
from budwood.errors import AdapterError


@dataclass
class Current:
    """The plan that a bank's layers read; None: base only."""

    plan: Plan | None = None


@dataclass(frozen=True)
class SlotPair:
    """One slot's pair in one layer: `a`, `b` as the optimiser sees them, and cast to the layer's dtype if they are fixed.

    `row_scale` is what a fixed `magnitude` comes to.
    """

    a: Tensor
    b: Tensor
    scaling: float
    cast_a: Tensor
    cast_b: Tensor
    fixed: bool
    anchor: tuple[Tensor, Tensor] | None = None
    magnitude: Tensor | None = None
    row_scale: Tensor | None = None

    @property
    def joins(self) -> bool:
        """Whether it may be put beside others in one product."""
        return self.fixed and self.magnitude is None


class LoraLinear(AttachedLinear):
    """A linear layer with room for pairs. Made by `AdapterBank.attach`.

    Args:
        base: the layer that it replaces.
        path: its module path, for messages and the seeds of dropout.
        current: where the plan of the running forward pass stands.
    """

    def __init__(self, base: nn.Module, path: str, current: Current) -> None:
        super().__init__(base)
        self.out_features, self.in_features = linear_shape(base)
        self.path = path
        self.pairs: dict[int, SlotPair] = {}
        self._current = current
        self._frozen = frozen_linear(base)
        self._stacked: tuple[tuple[int, ...], Tensor, Tensor] | None = None

    @property
    def bias(self) -> Tensor | None:
        return self.base.bias  # type: ignore[return-value]  # an nn.Module attribute

    @property
    def has_magnitudes(self) -> bool:
        return any(pair.magnitude is not None for pair in self.pairs.values())

    def put(self, slot: int, pair: SlotPair) -> None:
        self.pairs[slot] = pair

    def drop(self, slot: int) -> None:
        """Forget a slot, and what was stacked up from it."""
        self.pairs.pop(slot, None)
        self._stacked = None

    @property
    def size_bytes(self) -> int:
        """Bytes of all pairs here, their casts, and what is stacked up from them."""
        stacked = self._stacked[1:] if self._stacked is not None else ()
        return sum(map(self.size_of, self.pairs)) + sum(tensor.nbytes for tensor in stacked)

    def size_of(self, slot: int) -> int:
        """Bytes of one slot's pair and its casts."""
        pair = self.pairs[slot]
        distinct = {tensor.data_ptr(): tensor.nbytes for tensor in (pair.a, pair.b, pair.cast_a, pair.cast_b)}
        return sum(distinct.values())

    def forward(self, x: Tensor) -> Tensor:
        """(…, d_in) → (…, d_out); the leading dimensions are flattened to tokens.

        Raises:
            AdapterError: the segments are for another number of tokens.
        """
        plan = self._current.plan
        runs = self._runs(plan)
        if plan is None or not runs:
            return self.base(x)  # type: ignore[no-any-return]  # nn.Module.__call__
        flat = x.reshape(-1, self.in_features)
        self._check_tokens(len(flat), plan)
        if torch.is_grad_enabled() and self._needs_grad(flat, runs):
            y = self._with_gradients(flat, runs)
        else:
            y = self._frozen.product(flat)
            self._add(y, flat, plan, runs)
        return y.view(*x.shape[:-1], self.out_features)

    def _with_gradients(self, x: Tensor, runs: list[Run]) -> Tensor:
        pairs = self.active(len(x), x.device)
        magnitude = self.pairs[runs[0].slot].magnitude
        if all(self.pairs[run.slot].magnitude is None for run in runs):
            return lora_product(x, self._frozen, pairs)
        if len(pairs) != 1 or magnitude is None or (pairs[0].start, pairs[0].end or len(x)) != (0, len(x)):
            raise AdapterError(
                f"{self.path} has an adapter with magnitudes (DoRA) among others in one batch with gradients.",
                mend="Train such an adapter alone, for all tokens.",
            )
        return dora_product(x, self._frozen, self.bias, pairs[0], magnitude, row_scale(self.base, pairs[0], magnitude))

    def active(self, tokens: int, device: torch.device) -> list[RunPair]:
        """The pairs at work in this pass on so many tokens, for whoever makes the product; magnitudes are left to it.

        Raises:
            AdapterError: the segments are for another number of tokens.
        """
        plan = self._current.plan
        runs = self._runs(plan)
        if plan is None or not runs:
            return []
        self._check_tokens(tokens, plan)
        found: list[RunPair] = []
        for run in runs:
            found.append(self._run_pair(run, tokens, device, plan))
            pair = self.pairs[run.slot]
            if pair.anchor is not None:
                # The frozen copy stands for a part of the weight, whose input nothing is dropped from.
                found.append(RunPair(run.start, run.end, *pair.anchor, -pair.scaling))
        return found

    def _runs(self, plan: Plan | None) -> list[Run]:
        return [run for run in plan.runs if run.slot in self.pairs] if plan is not None else []

    def _add(self, y: Tensor, x: Tensor, plan: Plan, runs: list[Run]) -> None:
        if plan.padded is not None and all(self.pairs[run.slot].joins for run in runs):
            self._add_padded(y, x, plan.padded)
            return
        for run in runs:
            pair, rows = self.pairs[run.slot], slice(run.start, run.end)
            add_run(y[rows], x[rows], pair.cast_a, pair.cast_b, pair.scaling)
            if pair.anchor is not None:
                add_run(y[rows], x[rows], *pair.anchor, -pair.scaling)
            if pair.magnitude is not None:
                whole = RunPair(0, None, pair.a, pair.b, pair.scaling)
                scale = row_scale(self.base, whole, pair.magnitude) if pair.row_scale is None else pair.row_scale
                y[rows] = scaled_rows(y[rows], self.bias, scale)

    def _add_padded(self, y: Tensor, x: Tensor, padded: Padded) -> None:
        a, b = self._stacks(padded.slots, x.dtype)
        count, length = len(padded.slots), padded.length
        if padded.gather is None:
            inner = torch.bmm(x.view(count, length, -1), a)
            y.view(count, length, -1).baddbmm_(inner, b)
            return
        inner = torch.bmm(x.index_select(0, padded.gather).view(count, length, -1), a)
        added = torch.bmm(inner, b).view(count * length, -1)
        y.index_add_(0, padded.rows, added.index_select(0, padded.kept))

    def _stacks(self, slots: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(K, d_in, R) and scaled (K, R, d_out), ranks filled up with zeros. Kept: decoding repeats them."""
        if self._stacked is not None and self._stacked[0] == slots and self._stacked[1].dtype == dtype:
            return self._stacked[1], self._stacked[2]
        pairs = [self.pairs.get(slot) for slot in slots]
        rank = max(pair.a.shape[0] for pair in pairs if pair is not None)
        device = next(pair.a.device for pair in pairs if pair is not None)
        a = torch.zeros(len(slots), rank, self.in_features, dtype=dtype, device=device)
        b = torch.zeros(len(slots), rank, self.out_features, dtype=dtype, device=device)
        for row, pair in enumerate(pairs):
            if pair is not None:
                a[row, : pair.a.shape[0]] = pair.a
                b[row, : pair.a.shape[0]] = pair.b.T * pair.scaling
        self._stacked = (slots, a.transpose(1, 2), b)
        return self._stacked[1], self._stacked[2]

    def _needs_grad(self, x: Tensor, runs: list[Run]) -> bool:
        return x.requires_grad or any(not self.pairs[run.slot].fixed for run in runs)

    def _run_pair(self, run: Run, tokens: int, device: torch.device, plan: Plan) -> RunPair:
        pair = self.pairs[run.slot]
        if run.slot not in plan.dropout:
            return RunPair(run.start, run.end, pair.a, pair.b, pair.scaling)
        share, seed = plan.dropout[run.slot]
        size = (tokens if run.end is None else run.end) - run.start
        mask = self._mask((size, self.in_features), share, f"{seed}:{run.start}:{self.path}", device)
        return RunPair(run.start, run.end, pair.a, pair.b, pair.scaling, mask, 1 - share)

    @staticmethod
    def _mask(shape: tuple[int, int], share: float, name: str, device: torch.device) -> Tensor:
        """Draw by name, not by order: a pass that is computed again (checkpointing) drops the same inputs."""
        digest = hashlib.sha256(name.encode()).digest()
        generator = torch.Generator(device=device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        return torch.empty(shape, dtype=torch.bool, device=device).bernoulli_(1 - share, generator=generator)

    def _check_tokens(self, tokens: int, plan: Plan) -> None:
        if plan.tokens is not None and plan.tokens != tokens:
            raise AdapterError(
                f"Segments are for {plan.tokens} tokens, {self.path} got {tokens}.",
                where="a batch of mixed adapters",
                mend="Make the segments from the batch that is run.",
            )
