"""The sets of C kernels that a processor may have, for tests that hold for each."""

import pytest

from budwood.engine.generate import native_step
from budwood.engine.native import attention, build, products
from budwood.engine.native.build import AVX2, FLAGS, Missing, instructions, kernels, no_tiles
from budwood.native.build import load_library, processor_flags

SETS = ("AVX2", "AVX512", "AMX")


def take(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the kernels of one set run, or skip with a word where this machine has none."""
    found = kernels()
    if isinstance(found, Missing):
        pytest.skip(f"no C kernels on this machine: {found.reason}")
    missing = no_tiles()
    if which == "AMX" and missing:
        pytest.skip(f"no tiles on this machine: {missing.reason}")
    if which == "AVX512" and instructions() == AVX2:
        pytest.skip("no AVX512_BF16 on this machine")
    if which != "AMX":
        for module in (attention, products, native_step):
            monkeypatch.setattr(module, "no_tiles", lambda: Missing("another set is asked for"))
    if which == "AVX2" and instructions() != AVX2:
        assert processor_flags().issuperset(AVX2.needed)
        library = load_library("budwood.engine.native", (*FLAGS, *AVX2.flags))
        monkeypatch.setattr(build, "instructions", lambda: AVX2)
        monkeypatch.setattr(build, "kernels", lambda: library)
