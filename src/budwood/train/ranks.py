"""The processes of one training: who computes which pass, and what they add up.

Every process holds the whole adapter (for full fine-tuning: all weights) and steps alike. A step's passes are shared out, and
gradients, losses and counts are summed before anything is divided: the loss is still a mean over the step's supervised tokens.
The frozen base is sharded by layer (FSDP2); weights in 4 or 8 bits are no parameters and stay whole in each process. The result
is that of one process but for the order of sums.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from budwood.engine.device import make_ready

BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
"""Gradients go where they lie, counts and words by the CPU's."""


@dataclass(frozen=True)
class Ranks:
    """This process among the others; alone by default, and then nothing is sent."""

    rank: int = 0
    world: int = 1

    def place(self, device: str) -> torch.device:
        """Where this process computes: with several GPUs each has its own."""
        if device == "cuda" and self.world > 1:
            return torch.device("cuda", self.rank)
        return torch.device(device)

    @property
    def first(self) -> bool:
        """Whether this is the process that reports, and writes to the store."""
        return self.rank == 0

    def mine(self, passes: int) -> range:
        """Which of a step's passes this process computes."""
        return range(self.rank, passes, self.world)

    def idle(self, passes: int) -> int:
        """How many passes it has to go through for company: sharded layers are brought together by all at once."""
        return -(-passes // self.world) - len(self.mine(passes))

    def total(self, *numbers: float) -> list[float]:
        """Sum each number over all processes."""
        if self.world == 1:
            return list(numbers)
        summed = torch.tensor(numbers, dtype=torch.float64)
        torch.distributed.all_reduce(summed)
        return [float(number) for number in summed]

    def join_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients over all processes, in one message."""
        if self.world == 1:
            return
        trained = list(parameters)
        flat = torch.cat([_gradient(parameter).reshape(-1) for parameter in trained])
        torch.distributed.all_reduce(flat)
        for parameter, part in zip(trained, torch.split(flat, [parameter.numel() for parameter in trained]), strict=True):
            parameter.grad = part.view_as(parameter).clone()

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.world > 1:
            torch.distributed.barrier()

    def told(self, text: str | None) -> str:
        """Give every process what the first one says."""
        if self.world == 1:
            return text or ""
        said = [text]
        torch.distributed.broadcast_object_list(said)
        return said[0] or ""


def join(device: str) -> Ranks:
    """Become one of the processes that torchrun has started.

    Raises:
        ValueError: torchrun has not set the variables that say which one this is.
    """
    torch.distributed.init_process_group(BACKENDS[device])
    ranks = Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size())
    if device == "cuda":
        make_ready(device)
        torch.cuda.set_device(ranks.place(device))
    return ranks


def shard_layers(layers: nn.ModuleList) -> None:
    """Let each process hold its share of each layer's frozen weights; a layer is brought together while it computes."""
    from torch.distributed.fsdp import fully_shard

    for layer in layers:
        fully_shard(layer)


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
