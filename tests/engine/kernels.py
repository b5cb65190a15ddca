"""The two sets of C kernels that a processor may have, for tests that hold for each."""

import pytest

from budwood.engine.generate import native_step
from budwood.engine.native import attention, products
from budwood.engine.native.build import Missing, kernels, no_tiles

SETS = ("AVX512", "AMX")


def take(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the kernels of one set run, or skip with a word where this machine has none."""
    found = kernels()
    if isinstance(found, Missing):
        pytest.skip(f"no C kernels on this machine: {found.reason}")
    missing = no_tiles()
    if which == "AMX" and missing:
        pytest.skip(f"no tiles on this machine: {missing.reason}")
    if which == "AVX512":
        for module in (attention, products, native_step):
            monkeypatch.setattr(module, "no_tiles", lambda: Missing("another set is asked for"))
