"""Devices that a test runs on: the CPU always, a GPU where there is one; else it is skipped, with a word."""

import pytest
import torch

from budwood.engine.device import make_ready

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def computes_on(device: str) -> None:
    """Skip the test where there is no such device; make it ready where there is."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device is at hand here")
    make_ready(device)
