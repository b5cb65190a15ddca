"""The optimiser: Muon for the matrices inside the blocks, AdamW for the embedding and the norms.

Muon takes the momentum of a matrix and replaces its singular values by about one (five Newton-Schulz iterations with the
published coefficients), so that every direction of the matrix learns at the same speed. Source: Keller Jordan's Muon
write-up (2024); the scale `0.2 * sqrt(max(rows, columns))` follows arXiv:2502.16982, so that one learning rate suits both.
State is plain tensors in a dict, which safetensors can hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from tools.seedling.crew import Crew
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrix: Tensor) -> Tensor:
    """Replace the singular values by values near one; computed in bfloat16."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    out: Tensor = (x.T if tall else x).float()
    return out


class Optimiser:
    """Float32 master weights beside a bfloat16 network; `step` updates the masters and writes them back.

    `parts` says into how many row blocks a fused matrix falls (3 for qkv, 2 for gate_up): each is orthogonalised alone.
    """

    def __init__(self, network: nn.Module, *, weight_decay: float, crew: Crew | None = None) -> None:
        self.crew = crew or Crew()
        self.named = dict(network.named_parameters())
        self.master = {name: p.detach().float().clone() for name, p in self.named.items()}
        self.state: dict[str, Tensor] = {}
        self.weight_decay = weight_decay

    def step(self, *, rate: float, number: int) -> float:
        """One update; returns the gradient norm before clipping at 1."""
        grads = self.crew.mean({name: p.grad.float() for name, p in self.named.items() if p.grad is not None})
        norm = float(torch.stack([g.square().sum() for g in grads.values()]).sum().sqrt())
        clip = min(1.0, 1.0 / (norm + 1e-6))
        matrices = {name: g for name, g in grads.items() if g.ndim == 2 and name.startswith("blocks.")}
        for name, update in self._directions(matrices).items():
            self.master[name].mul_(1 - rate * self.weight_decay).sub_(update, alpha=rate)
        for name, grad in grads.items():
            if name not in matrices:
                self._adam(name, self.master[name], grad * clip, rate, number)
        for name, parameter in self.named.items():
            parameter.data.copy_(self.master[name])
            parameter.grad = None
        return norm

    def _directions(self, grads: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Muon's update for each matrix; the members of a crew share the work out and add the pieces up."""
        updates: dict[str, Tensor] = {}
        for at, (name, grad) in enumerate(grads.items()):
            momentum = self.state.setdefault(f"{name}.momentum", torch.zeros_like(grad))
            momentum.lerp_(grad, 0.05)
            if at % self.crew.size != self.crew.rank:
                updates[name] = torch.zeros_like(grad)
                continue
            parts = 3 if "qkv" in name else 2 if "gate_up" in name else 1
            turned = torch.cat([orthogonalise(part) for part in grad.lerp(momentum, 0.95).chunk(parts)])
            updates[name] = turned * (0.2 * max(grad.shape[0] // parts, grad.shape[1]) ** 0.5)
        return self.crew.total(updates)

    def _adam(self, name: str, master: Tensor, grad: Tensor, rate: float, number: int) -> None:
        first = self.state.setdefault(f"{name}.first", torch.zeros_like(master))
        second = self.state.setdefault(f"{name}.second", torch.zeros_like(master))
        first.lerp_(grad, 0.1)
        second.lerp_(grad.square(), 0.05)
        corrected = (second / (1 - 0.95**number)).sqrt_().add_(1e-8)
        master.addcdiv_(first, corrected, value=-rate / (1 - 0.9**number))

    def tensors(self) -> dict[str, Tensor]:
        """Everything that resuming needs, under flat names."""
        masters = {f"master.{name}": t for name, t in self.master.items()}
        return masters | {f"state.{name}": t for name, t in self.state.items()}

    def load(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Take back what `tensors` gave, and copy the masters into the network."""
        for name, tensor in tensors:
            where, _, rest = name.partition(".")
            if where == "master":
                self.master[rest].copy_(tensor)
                self.named[rest].data.copy_(tensor)
            else:
                self.state[rest] = tensor.to(self.master[rest.rsplit(".", 1)[0]].device)
