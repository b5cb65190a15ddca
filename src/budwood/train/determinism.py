"""The settings of torch under which the same work gives the same bytes, put back afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def deterministic(threads: int) -> Iterator[None]:
    """Compute with so many threads, and refuse operations whose result depends on timing.

    The number of threads decides how sums are split, so it is part of what a byte-identical result needs.
    """
    before_threads = torch.get_num_threads()
    before_mode = torch.get_deterministic_debug_mode()
    switches: Any = torch.utils.deterministic  # a module whose attributes are set through its class: unknown to mypy
    before_fill = switches.fill_uninitialized_memory
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # Filling fresh memory with NaN is a debugging aid; every buffer here is written before it is read.
    switches.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(before_threads)
        torch.set_deterministic_debug_mode(before_mode)
        switches.fill_uninitialized_memory = before_fill
