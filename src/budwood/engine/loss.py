"""Cross-entropy at supervised positions, in pieces, with the gradient made in the forward pass.

Logits of one piece are alive at a time and their gradient is made at once from the same numbers, so nothing of size
tokens x vocabulary ever exists and the backward pass is two multiplications. The loss is a sum: the caller divides by the
supervised tokens of the whole step.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

CHUNK = 512


def supervised_loss(
    hidden: Tensor, head: Tensor, targets: Tensor, *, scale: float = 1.0, softcap: float | None = None, chunk: int = CHUNK
) -> Tensor:
    """Sum the cross-entropy of N positions.

    Args:
        hidden: (N, d), what enters the head.
        head: (V, d); gets a gradient when it requires one.
        targets: (N,) int64.
        scale: factor on the logits.
        softcap: tanh cap on the logits, after `scale`.
        chunk: positions whose logits are alive at once.

    Returns:
        Scalar float32 (float64 for float64 inputs), in nats, the sum over positions.

    Source: held to `torch.nn.functional.cross_entropy` by tests/engine/test_loss.py.
    """
    apply: Callable[..., Tensor] = _SupervisedLoss.apply
    return apply(hidden, head, targets, scale, softcap, chunk)


class _SupervisedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, scale: float, softcap: float | None, chunk: int
    ) -> Tensor:
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        needs_hidden, needs_head = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_head = torch.zeros(head.shape, dtype=wide, device=head.device) if needs_head else None
        total = torch.zeros((), dtype=wide, device=hidden.device)
        for start in range(0, len(targets), chunk):
            piece, wanted = hidden[start : start + chunk], targets[start : start + chunk, None]
            scores = (piece @ head.T).to(wide)
            if scale != 1.0:
                scores *= scale
            if softcap is not None:
                scores = torch.tanh(scores / softcap) * softcap
            slope = None if softcap is None else 1 - (scores / softcap) ** 2
            total += (torch.logsumexp(scores, -1) - scores.gather(1, wanted)[:, 0]).sum()
            if not (needs_hidden or needs_head):
                continue
            scores = torch.softmax(scores, -1)
            scores.scatter_add_(1, wanted, torch.full_like(wanted, -1, dtype=wide))
            if slope is not None:
                scores *= slope
            if scale != 1.0:
                scores *= scale
            narrow = scores.to(hidden.dtype)
            if grad_hidden is not None:
                torch.mm(narrow, head.to(narrow.dtype), out=grad_hidden[start : start + chunk])
            if grad_head is not None:
                grad_head += (narrow.T @ piece).to(wide)
        ctx.save_for_backward(grad_hidden, None if grad_head is None else grad_head.to(head.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        grad_hidden, grad_head = ctx.saved_tensors
        factor: Tensor = grads[0]
        return (
            None if grad_hidden is None else grad_hidden * factor.to(grad_hidden.dtype),
            None if grad_head is None else grad_head * factor.to(grad_head.dtype),
            None,
            None,
            None,
            None,
        )
