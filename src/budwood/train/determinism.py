"""The settings of torch under which the same work gives the same bytes, put back afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from budwood.engine.device import WORKSPACE, make_ready, repeats_itself
from budwood.errors import TrainingError


@contextmanager
def deterministic(threads: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Compute with so many threads, and refuse operations whose result depends on timing.

    The number of threads decides how sums are split, so it is part of what a byte-identical result needs; on a GPU, so is a
    setting of its matrix library.

    Raises:
        TrainingError: the GPU's products would not repeat themselves: it was used in this process before that could be set.
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
        _check_products(torch.device(device))
        yield
    finally:
        torch.set_num_threads(before_threads)
        torch.set_deterministic_debug_mode(before_mode)
        switches.fill_uninitialized_memory = before_fill


def _check_products(device: torch.device) -> None:
    """Make a product: torch reads the setting at the first one of a process, and refuses all later ones if it was missing."""
    if device.type != "cuda":
        return
    make_ready(device)
    try:
        if repeats_itself():
            torch.ones(2, 2, device=device).mm(torch.ones(2, 2, device=device))
            return
        reason = f"{WORKSPACE} is set to something else"
    except RuntimeError as error:
        if WORKSPACE not in str(error):
            raise
        reason = "the GPU was used in this process before"
    raise TrainingError(
        f"Matrix products on this GPU would not give the same bytes each time: {reason}.",
        where="the environment",
        mend=f"Set {WORKSPACE}=:4096:8 before the program starts.",
    )
