"""The training form of the Llama network: the same function as transformers' LlamaForCausalLM, laid out for speed.

Query, key and value are one matrix here, gate and up are another, and the loss is taken in pieces, so that the logits
(tokens x vocabulary) are never alive at once. `to_llama` gives the tensors under transformers' names. Knows no text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PIECE = 1024  # rows of logits alive at once
LogitGradient = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network; the defaults are what the pretraining script trains."""

    vocab_size: int = 7168
    hidden_size: int = 256
    intermediate_size: int = 704
    layers: int = 6
    heads: int = 4
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5


class Norm(nn.Module):
    """Root-mean-square norm with a learned gain."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        out: Tensor = (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.weight
        return out


class Block(nn.Module):
    """One decoder layer; `qkv` is (3d, d) and `gate_up` (2f, d)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d, f = shape.hidden_size, shape.intermediate_size
        self.heads = shape.heads
        self.attention_norm = Norm(d, shape.norm_eps)
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.mlp_norm = Norm(d, shape.norm_eps)
        self.gate_up = nn.Linear(d, 2 * f, bias=False)
        self.down = nn.Linear(f, d, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        B, T, d = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(B, T, 3, self.heads, d // self.heads)
        query, key, value = qkv.transpose(1, 3).unbind(2)  # each (B, H, T, D)
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(B, T, d))
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, dim=-1)
        out: Tensor = x + self.down(F.silu(gate) * up)
        return out


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position in transformers' layout: the two halves of a head are one another's partner."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Network(nn.Module):
    """Token ids (B, T) and targets (B, T; -100 = not counted) to the mean loss over the counted positions."""

    def __init__(self, shape: Shape, *, generator: torch.Generator) -> None:
        super().__init__()
        self.shape = shape
        self.logit_gradient: LogitGradient = logit_gradient  # an attribute, so that it can be compiled
        self.embedding = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.hidden_size, shape.norm_eps)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                # Outputs of the residual branches start small, so that depth does not grow the stream at the start.
                small = (2 * shape.layers) ** -0.5 if name.endswith(("out.weight", "down.weight")) else 1.0
                nn.init.normal_(weight, std=0.02 * small, generator=generator)

    def rotary(self, length: int, like: Tensor) -> tuple[Tensor, Tensor]:
        half = self.shape.hidden_size // self.shape.heads // 2
        rate = self.shape.rope_theta ** (-torch.arange(half, device=like.device, dtype=torch.float32) / half)
        angle = torch.arange(length, device=like.device, dtype=torch.float32)[:, None] * rate
        return angle.cos().to(like.dtype), angle.sin().to(like.dtype)

    def hidden(self, ids: Tensor) -> Tensor:
        """Final hidden states (B, T, d), after the last norm."""
        x = self.embedding(ids)
        cos, sin = self.rotary(ids.shape[1], x)
        for block in self.blocks:
            x = block(x, cos, sin)
        out: Tensor = self.norm(x)
        return out

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        counted = int((targets != -100).sum())
        hidden = self.hidden(ids).flatten(0, 1)
        loss: Tensor = TiedLoss.apply(  # type: ignore[no-untyped-call]  # torch does not type Function.apply
            hidden, self.embedding.weight, targets.flatten(), counted, self.logit_gradient
        )
        return loss


def logit_gradient(logits: Tensor, goal: Tensor, counted: int) -> tuple[Tensor, Tensor]:
    """Summed loss of a piece, and the gradient of the mean loss with respect to its logits, in their dtype."""
    wide = logits.float()
    top = wide.amax(-1, keepdim=True)
    power = (wide - top).exp()
    total = power.sum(-1, keepdim=True)
    here = goal != -100
    right = torch.arange(logits.shape[1], device=goal.device) == goal[:, None]
    loss = ((total.log() + top)[:, 0] - torch.where(right, wide, 0.0).sum(-1)) * here
    gradient = (power / total - right.float()) * (here[:, None] / counted)
    return loss.sum(), gradient.to(logits.dtype)


class TiedLoss(torch.autograd.Function):
    """Mean cross-entropy against a tied embedding; both gradients are made in the forward pass, piece by piece.

    Cost: three products with the vocabulary, against four when the logits are made again in the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, embedding: Tensor, targets: Tensor, counted: int, logit_gradient: LogitGradient
    ) -> Tensor:
        grad_hidden = torch.empty_like(hidden)
        grad_embedding = torch.zeros_like(embedding, dtype=torch.float32)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, targets.numel(), PIECE):
            part = hidden[start : start + PIECE]
            loss, low = logit_gradient(part @ embedding.T, targets[start : start + PIECE], counted)
            total += loss
            grad_hidden[start : start + PIECE] = low @ embedding
            grad_embedding += low.T @ part
        ctx.save_for_backward(grad_hidden, grad_embedding.to(embedding.dtype))
        return total / counted

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_embedding = ctx.saved_tensors
        return grad_hidden * grads[0], grad_embedding * grads[0], None, None, None
