"""How much memory this process has used at most."""

import resource
import sys

import torch


def peak_bytes(device: torch.device) -> int:
    """Peak of the device's memory, or on a CPU of the process's resident memory since it began."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes everywhere but on macOS
