"""The C attention against a float64 loop, and what happens where it cannot be had."""

import subprocess
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.engine.kernels import SETS, take
from torch import Tensor

from budwood.engine import attention as seam
from budwood.engine.native import build
from budwood.engine.native.attention import native_attention
from budwood.engine.native.build import Missing, kernels, no_tiles, widens
from budwood.engine.packed import Encoded, pack


@pytest.fixture
def native() -> None:
    found = kernels()
    if isinstance(found, Missing):
        pytest.skip(f"no C kernels on this machine: {found.reason}")


@pytest.fixture(params=SETS)
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    take(request.param, monkeypatch)


def bounds(lengths: tuple[int, ...]) -> Tensor:
    return torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32)


def states(lengths: tuple[int, ...], heads: int, kv_heads: int, width: int, *, seed: int = 0) -> list[Tensor]:
    """Queries, keys and values as slices of one product, so that tokens are further apart than they are long."""
    generator = torch.Generator().manual_seed(seed)
    fused = torch.randn(sum(lengths), (heads + 2 * kv_heads) * width, generator=generator).bfloat16()
    parts = torch.split(fused, [heads * width, kv_heads * width, kv_heads * width], dim=1)
    return [part.view(len(part), -1, width) for part in parts]


def reference(given: list[Tensor], lengths: tuple[int, ...], scale: float, window: int | None) -> Tensor:
    """One row, all pairs, in float64."""
    q, k, v = given
    share = q.shape[1] // k.shape[1]
    rows = []
    ends = bounds(lengths).tolist()
    for start, end in pairwise(ends):
        queries, keys, values = (state[start:end].transpose(0, 1) for state in (q, k, v))
        keys, values = (state.repeat_interleave(share, 0) for state in (keys, values))
        place = torch.arange(queries.shape[1])
        distance = place[:, None] - place
        hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
        scores = (queries @ keys.transpose(1, 2) * scale).masked_fill(hidden, float("-inf"))
        rows.append((scores.softmax(-1) @ values).transpose(0, 1))
    return torch.cat(rows)


def off(found: Tensor, wanted: Tensor) -> float:
    return float((found.detach().double() - wanted.detach()).norm() / wanted.detach().norm())


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize(
    ("lengths", "heads", "kv_heads", "width", "window"),
    [
        ((1, 2, 5, 33, 64, 100, 31, 17), 9, 3, 64, None),
        ((257, 300), 4, 4, 64, None),
        ((70, 129), 4, 2, 128, None),
        ((40, 75), 2, 1, 96, None),
        ((64, 33), 4, 1, 32, None),
        ((200, 90), 6, 2, 64, 37),
        ((200, 90), 2, 2, 64, 1),
        ((50,), 2, 2, 64, 500),
        ((1100,), 2, 1, 64, None),
        ((130, 40), 2, 1, 256, 70),
    ],
)
def test_it_is_attention_row_by_row(
    lengths: tuple[int, ...], heads: int, kv_heads: int, width: int, window: int | None
) -> None:
    given = states(lengths, heads, kv_heads, width)
    scale = 0.7 * width**-0.5
    ours = [state.detach().requires_grad_() for state in given]
    found = native_attention(ours[0], ours[1], ours[2], bounds(lengths), scale=scale, window=window)
    theirs = [state.detach().double().requires_grad_() for state in given]
    wanted = reference(theirs, lengths, scale, window)
    weight = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    mine = torch.autograd.grad(found, ours, weight)
    other = torch.autograd.grad(wanted, theirs, weight.double())
    # bfloat16 keeps 8 bits: a rounding of every result alone gives 0.0017.
    assert off(found, wanted) < 0.0025
    if lengths != (200, 90) or window != 1:
        assert max(off(a, b) for a, b in zip(mine, other, strict=True)) < 0.004
    else:
        # A token that sees itself alone: neither queries nor keys matter.
        assert float(other[0].abs().max()) < 1e-12
        assert float(mine[0].abs().max()) < 0.02


@pytest.mark.usefixtures("either")
def test_large_scores_stay_finite_and_exact() -> None:
    lengths = (65, 40)
    given = [state * 12 for state in states(lengths, 2, 1, 64)]
    found = native_attention(given[0], given[1], given[2], bounds(lengths), scale=1.0, window=None)
    wanted = reference([state.double() for state in given], lengths, 1.0, None)
    assert off(found, wanted) < 0.0025


@pytest.mark.usefixtures("either")
def test_a_window_beyond_all_numbers_of_32_bits_is_none() -> None:
    lengths = (70, 33)
    results = []
    for window in (None, 2**31 - 1):
        given = [state.detach().requires_grad_() for state in states(lengths, 2, 1, 64)]
        found = native_attention(given[0], given[1], given[2], bounds(lengths), scale=0.125, window=window)
        results.append([found, *torch.autograd.grad(found.float().square().sum(), given)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.usefixtures("either")
def test_the_number_of_threads_changes_no_bit() -> None:
    lengths = (90, 33, 61, 7)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            given = [state.detach().requires_grad_() for state in states(lengths, 6, 2, 64)]
            found = native_attention(given[0], given[1], given[2], bounds(lengths), scale=0.125, window=None)
            results.append([found, *torch.autograd.grad(found.float().square().sum(), given)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def through_interface(lengths: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    layout = pack([Encoded((1,) * length, (False,) * length) for length in lengths]).layout
    q, k, v = (state.to(dtype).transpose(0, 1)[None].requires_grad_() for state in states(lengths, 4, 2, 64))
    module: Any = torch.nn.Module()
    return seam.attention(module, q, k, v, None, layout=layout)[0][0]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """Dtypes in which the seam has called the kernel."""
    calls: list[torch.dtype] = []

    def spy(q: Tensor, *rest: Any, **settings: Any) -> Tensor:
        calls.append(q.dtype)
        return native_attention(q, *rest, **settings)

    monkeypatch.setattr(seam, "native_attention", spy)
    return calls


@pytest.mark.usefixtures("native")
def test_the_seam_takes_it_for_bfloat16_alone(taken: list[torch.dtype]) -> None:
    half, single = through_interface((40, 9, 70), torch.bfloat16), through_interface((40, 9, 70), torch.float32)
    assert taken == [torch.bfloat16]
    assert off(half, single.double()) < 0.004
    named = "native, AVX2" if widens() else "native" if no_tiles() else "native, AMX"
    assert seam.packed_attention_way(torch.device("cpu"), torch.bfloat16, None) == named
    assert seam.packed_attention_way(torch.device("cpu"), torch.float32, None) == "torch"


def test_without_kernels_the_seam_goes_another_way_and_says_so(
    taken: list[torch.dtype], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seam, "kernels", lambda: Missing("this processor has no avx512_bf16"))
    half, single = through_interface((40, 9, 70), torch.bfloat16), through_interface((40, 9, 70), torch.float32)
    assert taken == []
    assert off(half, single.double()) < 0.008
    way = seam.packed_attention_way(torch.device("cpu"), torch.bfloat16, None)
    assert way == "products, or torch for long rows: this processor has no avx512_bf16"


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and a look at the machine that is not remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build, "processor_flags", lambda: frozenset(build.AVX512.needed))
    monkeypatch.setattr(build, "instructions", build.instructions.__wrapped__)
    return tmp_path


def test_another_processor_a_missing_and_a_failing_compiler_are_named(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = build.kernels.__wrapped__
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    assert look() == Missing("no C compiler was found; install one, or name it in CC")
    monkeypatch.setenv("CC", "/nowhere/cc")
    nowhere = look()
    assert isinstance(nowhere, Missing)
    assert "/nowhere/cc" in nowhere.reason
    broken = fresh / "cc"
    broken.write_text("#!/bin/sh\necho 'x.c:1: error: unknown target' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    assert look() == Missing("the C compiler refused: x.c:1: error: unknown target")
    monkeypatch.setattr(build, "processor_flags", lambda: frozenset({"avx512f"}))
    assert look() == Missing("this processor has no avx2")
    assert list(build.cache_folder().iterdir()) == []


@pytest.mark.usefixtures("native")
def test_why_there_are_no_tiles_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    look = build.no_tiles.__wrapped__
    monkeypatch.setattr(build, "processor_flags", lambda: frozenset({*build.AVX512.needed, "amx_tile"}))
    assert look() == Missing("this processor has no amx_bf16")
    monkeypatch.setattr(build, "processor_flags", lambda: frozenset({*build.AVX512.needed, *build.TILE_FLAGS}))
    for answer, reason in enumerate(build.NOT_GRANTED):
        library = SimpleNamespace(budwood_tiles_granted=lambda answer=answer: answer)
        monkeypatch.setattr(build, "kernels", lambda library=library: library)
        assert look() == (Missing(reason) if reason else None)
    monkeypatch.setattr(build, "kernels", lambda: Missing("this processor has no avx512_bf16"))
    assert look() == Missing("this processor has no avx512_bf16")


@pytest.mark.usefixtures("native")
def test_it_is_compiled_once(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    original = subprocess.run

    def run(command: list[str], **more: Any) -> Any:
        calls.append(command)
        return original(command, **more)

    monkeypatch.setattr("subprocess.run", run)
    look = build.kernels.__wrapped__
    assert not isinstance(look(), Missing)
    assert not isinstance(look(), Missing)
    assert len(calls) == 2
    assert [path.suffix for path in build.cache_folder().iterdir()] == [".so"]


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_number_that_is_none_is_not_hidden(which: int) -> None:
    lengths = (40, 20)
    given = [state.clone().detach().requires_grad_() for state in states(lengths, 2, 1, 64)]
    with torch.no_grad():
        given[which][5, 0, 3] = float("nan")
    found = native_attention(given[0], given[1], given[2], bounds(lengths), scale=0.125, window=None)
    grads = torch.autograd.grad(found.float().sum(), given)
    assert bool(found[5].isnan().any())
    assert bool(found[40:].isfinite().all())
    assert all(bool(grad[:40].isnan().any()) for grad in grads[:2])
