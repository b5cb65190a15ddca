"""Where to compute, and what a GPU has to be told before its first use in a process.

CUDA's matrix library gives the same bytes each time only with a workspace of fixed size, and torch's allocator leaves fewer
gaps when its segments can grow. Both are read from the environment once, at the first use, so they are set where a device is
chosen; what the user has set stays.
"""

import os
import sys

import torch

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
REPEATABLE = (":4096:8", ":16:8")
"""Workspaces with which cuBLAS repeats itself, by its documentation."""
ALLOCATOR, OLD_ALLOCATOR = "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"


def best_device() -> str:
    """Name the device to compute on here: "cuda", made ready, where there is one; else "cpu"."""
    if not torch.cuda.is_available():
        return "cpu"
    make_ready("cuda")
    return "cuda"


def make_ready(device: torch.device | str) -> None:
    """Set what a GPU reads at its first use; nothing for a CPU, and nothing that is set already."""
    if torch.device(device).type != "cuda":
        return
    os.environ.setdefault(WORKSPACE, REPEATABLE[0])
    # Segments that grow need the driver's virtual memory, which torch uses on Linux alone.
    if OLD_ALLOCATOR not in os.environ and sys.platform == "linux":
        os.environ.setdefault(ALLOCATOR, "expandable_segments:True")


def repeats_itself() -> bool:
    """Whether matrix products on a GPU give the same bytes each time, as the environment stands now."""
    return os.environ.get(WORKSPACE) in REPEATABLE
