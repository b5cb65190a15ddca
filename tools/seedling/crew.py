"""Several processes that train one network: each takes a share of the rows, gradients are averaged once a step.

On a small shared CPU this is faster than threads, which wait for one another inside every operation. Start with
`python -m torch.distributed.run --nproc-per-node 2 -m tools.pretrain_seedling --threads 1 ...`; alone it does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True, slots=True)
class Crew:
    """This process's number among `size`."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls) -> Crew:
        """The crew that torch's launcher describes in the environment, or a crew of one."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        distributed.init_process_group("gloo")
        return cls(distributed.get_rank(), size)

    def total(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each tensor summed over the crew; one message for all."""
        if self.size == 1:
            return dict(tensors)
        flat = torch.cat([tensor.flatten() for tensor in tensors.values()])
        distributed.all_reduce(flat)
        pieces = torch.split(flat, [tensor.numel() for tensor in tensors.values()])
        return {name: piece.view_as(tensor) for (name, tensor), piece in zip(tensors.items(), pieces, strict=True)}

    def mean(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor / self.size for name, tensor in self.total(tensors).items()}
