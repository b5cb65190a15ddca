"""Cross-entropy at supervised positions, in pieces, with the gradient made in the forward pass.

Logits of one piece are alive at a time and their gradient is made at once from the same numbers, so nothing of size
tokens x vocabulary ever exists and the backward pass is two multiplications. The loss is a sum: the caller divides by the
supervised tokens of the whole step.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from budwood.engine.native.build import Missing, kernels
from budwood.engine.native.elementwise import cross_entropy
from budwood.engine.native.products import multiply
from budwood.engine.product_lengths import ROUNDED_TO, rounded_up

WORKSPACE = 1 << 24
"""Logits that are alive at once, in numbers: 64 MiB in float32."""
GPU_WORKSPACE, FILLING = 1 << 26, 512
"""The same on a GPU, and positions that fill it: never more than the plan counts with."""
IGNORE = -100


def supervised_loss(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    *,
    scale: float = 1.0,
    softcap: float | None = None,
    chunk: int | None = None,
    rows: tuple[Tensor, Tensor] | None = None,
    known: bool = False,
) -> Tensor:
    """Sum the cross-entropy of N positions.

    Args:
        hidden: (N, d), what enters the head.
        head: (V, d); gets a gradient when it requires one.
        targets: (N,) int64; positions with -100 count nowhere.
        scale: factor on the logits.
        softcap: tanh cap on the logits, after `scale`.
        chunk: positions whose logits are alive at once; None: as many as fit the workspace.
        rows: (n,) int64 and (n, d): tokens, each once, with rows that stand in the place of the head's; they get a gradient
            when they require one.
        known: all targets are tokens of the vocabulary, none is -100; they are not looked at.

    Returns:
        Scalar float32 (float64 for float64 inputs), in nats, the sum over positions.

    Raises:
        IndexError: a target outside the vocabulary.

    Source: held to `torch.nn.functional.cross_entropy` by tests/engine/test_loss.py.
    """
    if not known:
        hidden, targets = _counted(hidden, targets, len(head))
    chunk = chunk or _piece(head)
    ids, values = rows or (None, None)
    if _native_does(hidden, head, scale, softcap):
        native: Callable[..., Tensor] = _NativeLoss.apply
        return native(hidden, head.detach(), targets, ids, values, chunk)
    apply: Callable[..., Tensor] = _SupervisedLoss.apply
    return apply(hidden, head, targets, ids, values, scale, softcap, chunk)


def position_losses(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    *,
    softcap: float | None = None,
    chunk: int | None = None,
    rows: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Give the cross-entropy of each position by itself, (N,), in nats; no gradient is made.

    Arguments as for `supervised_loss`, whose sum this adds up to; every target is a token of the vocabulary.
    """
    chunk = chunk or _piece(head)
    swapped = None if rows is None else _Rows.of(*rows, hidden.dtype)
    native = _native_does(hidden, head.detach(), 1.0, softcap)
    wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
    losses = torch.empty(len(targets), dtype=wide, device=hidden.device)
    with torch.no_grad():
        for start in range(0, len(targets), chunk):
            piece, wanted, found = (whole[start : start + chunk] for whole in (hidden, targets, losses))
            raw = multiply(piece, head) if native else (piece @ head.T).to(wide)
            if swapped is not None:
                swapped.put(raw, piece)
            if native:
                cross_entropy(raw, wanted, found)
            else:
                scores = _cap(raw, softcap)
                found.copy_(torch.logsumexp(scores, -1) - scores.gather(1, wanted[:, None])[:, 0])
    return losses


def _counted(hidden: Tensor, targets: Tensor, vocabulary: int) -> tuple[Tensor, Tensor]:
    """The positions that count, all of them inside the vocabulary."""
    counted = targets != IGNORE
    if not bool(counted.all()):
        hidden, targets = hidden[counted], targets[counted]
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < vocabulary:
        raise IndexError(f"targets lie in {int(targets.min())}..{int(targets.max())}, the vocabulary has {vocabulary} tokens")
    return hidden, targets


def _piece(head: Tensor) -> int:
    """Positions at once: what fits the workspace; on a GPU more, where a large vocabulary leaves too few to fill it."""
    few = max(1, WORKSPACE // len(head))
    return max(few, min(FILLING, GPU_WORKSPACE // len(head))) if head.device.type == "cuda" else few


def _native_does(hidden: Tensor, head: Tensor, scale: float, softcap: float | None) -> bool:
    plain = softcap is None and scale == 1.0 and not head.requires_grad
    half = hidden.device.type == "cpu" and hidden.dtype == head.dtype == torch.bfloat16
    return plain and half and not isinstance(kernels(), Missing)


class _Rows:
    """Rows in the place of the head's, piece by piece: their columns of the logits, and the way back from there."""

    def __init__(self, ids: Tensor, values: Tensor, dtype: torch.dtype) -> None:
        self._ids = ids
        self._narrow = values.to(dtype)
        wide = torch.float64 if values.dtype == torch.float64 else torch.float32
        self.gradient = torch.zeros(values.shape, dtype=wide, device=values.device)

    @classmethod
    def of(cls, ids: Tensor | None, values: Tensor | None, dtype: torch.dtype) -> "_Rows | None":
        return None if ids is None or values is None else cls(ids, values, dtype)

    def put(self, raw: Tensor, piece: Tensor) -> None:
        """Overwrite the columns of raw logits (m, V) of a piece (m, d)."""
        raw.index_copy_(1, self._ids, (piece @ self._narrow.T).to(raw.dtype))

    def take(self, slope: Tensor, piece: Tensor) -> Tensor:
        """Take the columns out of the gradient of the logits; give what they are worth to the piece's gradient (m, d)."""
        own = slope.index_select(1, self._ids)
        slope.index_fill_(1, self._ids, 0)
        self.gradient += own.to(self.gradient.dtype).T @ piece.to(self.gradient.dtype)
        return own @ self._narrow


class _NativeLoss(torch.autograd.Function):
    """The same for a frozen head in bfloat16 on a CPU: the logits are read three times and rounded once."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, ids: Tensor | None, values: Tensor | None, chunk: int
    ) -> Tensor:
        rows = _Rows.of(ids, values, hidden.dtype)
        grad_hidden = torch.empty_like(hidden)
        losses = torch.empty(len(targets), dtype=torch.float32)
        chunk = max(ROUNDED_TO, chunk - chunk % ROUNDED_TO)
        logits = hidden.new_empty(min(chunk, rounded_up(len(targets), ROUNDED_TO)), len(head))
        for start in range(0, len(targets), chunk):
            piece = hidden[start : start + chunk]
            count = len(piece)
            padded = _padded(piece)
            made = multiply(padded, head, out=logits[: len(padded)])
            scores = made[:count]
            if rows is not None:
                rows.put(scores, piece)
            cross_entropy(scores, targets[start : start + chunk], losses[start : start + chunk])
            own = None if rows is None else rows.take(scores, piece)
            if len(padded) == count:
                multiply(made, head, back=True, out=grad_hidden[start : start + chunk])
            else:
                grad_hidden[start : start + chunk] = multiply(made, head, back=True)[:count]
            if own is not None:
                grad_hidden[start : start + chunk] += own
        ctx.save_for_backward(grad_hidden, None if rows is None else rows.gradient)
        return losses.sum(dtype=torch.float64).float()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_rows = ctx.saved_tensors
        factor: Tensor = grads[0]
        return grad_hidden * factor.to(grad_hidden.dtype), None, None, None, _times(grad_rows, factor), None


def _padded(piece: Tensor) -> Tensor:
    """(m, d), with zeros behind it where m is no rounded length."""
    missing = rounded_up(len(piece), ROUNDED_TO) - len(piece)
    return torch.cat([piece, piece.new_zeros(missing, piece.shape[1])]) if missing else piece


class _SupervisedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        targets: Tensor,
        ids: Tensor | None,
        values: Tensor | None,
        scale: float,
        softcap: float | None,
        chunk: int,
    ) -> Tensor:
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        needs_hidden, needs_head = ctx.needs_input_grad[:2]
        needs_rows = ctx.needs_input_grad[4]
        rows = _Rows.of(ids, values, hidden.dtype)
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_head = torch.zeros(head.shape, dtype=wide, device=head.device) if needs_head else None
        total = torch.zeros((), dtype=wide, device=hidden.device)
        for start in range(0, len(targets), chunk):
            piece, wanted = hidden[start : start + chunk], targets[start : start + chunk, None]
            raw = (piece @ head.T).to(wide)
            if rows is not None:
                rows.put(raw, piece)
            scores = _cap(raw.mul_(scale) if scale != 1.0 else raw, softcap)
            norm = torch.logsumexp(scores, -1, keepdim=True)
            total += (norm - scores.gather(1, wanted)).sum()
            if needs_hidden or needs_head or needs_rows:
                slope = _slope(scores, norm, wanted, scale, softcap).to(hidden.dtype)
                own = None if rows is None else rows.take(slope, piece)
                if grad_hidden is not None:
                    grad_hidden[start : start + chunk] = slope @ head if own is None else (slope @ head).add_(own)
                if grad_head is not None:
                    grad_head += slope.T @ piece
        grad_rows = rows.gradient if rows is not None and needs_rows else None
        ctx.save_for_backward(grad_hidden, None if grad_head is None else grad_head.to(head.dtype), grad_rows)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_head, grad_rows = ctx.saved_tensors
        factor: Tensor = grads[0]
        of_inputs = (_times(grad_hidden, factor), _times(grad_head, factor), None, None, _times(grad_rows, factor))
        return (*of_inputs, None, None, None)


def _times(gradient: Tensor | None, factor: Tensor) -> Tensor | None:
    return None if gradient is None else gradient * factor.to(gradient.dtype)


def _cap(scores: Tensor, softcap: float | None) -> Tensor:
    return scores if softcap is None else scores.div_(softcap).tanh_().mul_(softcap)


def _slope(scores: Tensor, norm: Tensor, wanted: Tensor, scale: float, softcap: float | None) -> Tensor:
    """Derivative of the loss by the raw logits. Overwrites `scores` where no cap needs them again."""
    bend = None if softcap is None else 1 - (scores / softcap).square_()
    slope = scores.sub_(norm).exp_()
    slope.scatter_add_(1, wanted, torch.full_like(norm, -1))
    if bend is not None:
        slope.mul_(bend)
    return slope.mul_(scale) if scale != 1.0 else slope
