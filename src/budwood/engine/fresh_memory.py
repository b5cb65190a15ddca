"""Memory that goes back to the system when it is no longer used.

The C library keeps blocks below 32 MiB for itself once they are freed. A model's buffers are of that size and grow when a
longer pass comes: with 24 layers of them, each growth left the former buffers behind (0.7 GB at 0.5B parameters).
"""

import mmap

import torch
from torch import Tensor


def fresh_memory(size: int, dtype: torch.dtype) -> Tensor:
    """A tensor of `size` numbers in a mapping of its own, zeros until it is written to; no page is taken before that."""
    if size == 0:
        return torch.empty(0, dtype=dtype)
    mapping = mmap.mmap(-1, size * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(mapping, dtype=dtype)
