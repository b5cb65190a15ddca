"""What there is to compute with: cores, memory (containers' limits included), a GPU if any, and measured speed."""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

CGROUP_LIMITS = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")
UNLIMITED = 1 << 60
"""cgroup v1 writes a number near 2^63 where there is no limit."""
PROBE_S = 0.25


@dataclass(frozen=True)
class Machine:
    """A device and its measured speed.

    Args:
        device: where training would run.
        name: of the device.
        cores: that this process may use.
        memory_bytes: of the device; on a CPU the machine's, or less where a container is limited. Not what happens to be free
            now: the choice of a method must not change with what else is running.
        free_bytes: of it, free now.
        matmul: dtype → multiplications and additions a second, measured on (512, 1024) x (1024, 1024), on a GPU on eight times
            the sides, which is what fills it.
        dequantized_per_s: NF4 weights expanded to float32 a second, measured on (512, 1024); on a GPU (4096, 8192).
    """

    device: Literal["cpu", "cuda"]
    name: str
    cores: int
    memory_bytes: int
    free_bytes: int
    matmul: dict[str, float]
    dequantized_per_s: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_machine(*, clock: Callable[[], float] = time.perf_counter, root: Path = Path("/")) -> Machine:
    """Look at this machine and measure it; takes about a second."""
    import torch

    from budwood.engine.device import best_device

    device: Literal["cpu", "cuda"] = "cuda" if best_device() == "cuda" else "cpu"
    if device == "cuda":
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
    else:
        free, total = system_memory(root)
        name = f"CPU ({torch.backends.cpu.get_cpu_capability()})"
    return Machine(
        device=device,
        name=name,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=total,
        free_bytes=free,
        matmul={dtype: _matmul_rate(dtype, device, clock) for dtype in ("float32", "bfloat16")},
        dequantized_per_s=_dequantize_rate(device, clock),
    )


def system_memory(root: Path) -> tuple[int, int]:
    """Give (free, total) bytes of main memory, bounded by the container's limit. `root` is "/" but in tests."""
    facts = {}
    info = root / "proc/meminfo"
    if info.is_file():
        for line in info.read_text().splitlines():
            key, _, value = line.partition(":")
            facts[key] = int(value.split()[0]) * 1024
    else:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        facts = {"MemTotal": pages, "MemAvailable": pages}
    total, free = facts["MemTotal"], facts.get("MemAvailable", facts["MemTotal"])
    limit = _cgroup_limit(root)
    return (min(free, limit), min(total, limit)) if limit else (free, total)


def _cgroup_limit(root: Path) -> int | None:
    for name in CGROUP_LIMITS:
        path = root / name
        text = path.read_text().strip() if path.is_file() else ""
        if text.isdigit() and int(text) < UNLIMITED:
            return int(text)
    return None


def _matmul_rate(dtype: str, device: str, clock: Callable[[], float]) -> float:
    import torch

    kind: torch.dtype = getattr(torch, dtype)
    rows, side = 512 * _filling(device), 1024 * _filling(device)
    generator = torch.Generator(device=device).manual_seed(0)
    a = torch.randn(rows, side, generator=generator, device=device).to(kind)
    b = torch.randn(side, side, generator=generator, device=device).to(kind)
    return 2 * rows * side * side / _fastest(lambda: a @ b, device, clock)


def _dequantize_rate(device: str, clock: Callable[[], float]) -> float:
    import torch

    from budwood.engine.quant import Workspace, quantize

    shape = 512 * _filling(device), 1024 * _filling(device)
    weight = torch.randn(shape, generator=torch.Generator(device=device).manual_seed(0), device=device)
    quantized, workspace = quantize(weight), Workspace()
    return weight.numel() / _fastest(lambda: workspace.weight(quantized, torch.float32), device, clock)


def _filling(device: str) -> int:
    return 8 if device == "cuda" else 1


def _fastest(work: Callable[[], object], device: str, clock: Callable[[], float]) -> float:
    """Seconds of the fastest of the runs that fit into PROBE_S, at least three."""
    import torch

    best, began, runs = float("inf"), clock(), 0
    while runs < 3 or (clock() - began < PROBE_S and runs < 100):
        start = clock()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, clock() - start)
        runs += 1
    return max(best, 1e-9)
