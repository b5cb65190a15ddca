"""How much memory this process has used at most."""

import resource
import sys

import torch


def forget_peak(device: torch.device) -> None:
    """Let a GPU's peak be counted from now on; a process's own cannot be forgotten."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int:
    """Peak of what tensors take on a GPU, or on a CPU of the process's resident memory since it began."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes everywhere but on macOS
