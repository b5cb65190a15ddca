from pathlib import Path

import pytest

from budwood.plan.machine import read_machine, system_memory

MEMINFO = "MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:    9000 kB\n"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("", "", (9000 * 1024, 16000 * 1024)),
        ("sys/fs/cgroup/memory.max", "max\n", (9000 * 1024, 16000 * 1024)),
        ("sys/fs/cgroup/memory.max", "4096000\n", (4096000, 4096000)),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n", (9000 * 1024, 16000 * 1024)),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "12288000\n", (9000 * 1024, 12288000)),
    ],
)
def test_memory_is_bounded_by_the_container(tmp_path: Path, name: str, text: str, expected: tuple[int, int]) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text(MEMINFO)
    if name:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    assert system_memory(tmp_path) == expected


def test_this_machine_has_figures() -> None:
    machine = read_machine()
    assert machine.cores >= 1
    assert 0 < machine.free_bytes <= machine.memory_bytes
    assert set(machine.matmul) == {"float32", "bfloat16"}
    assert all(rate > 0 for rate in (*machine.matmul.values(), machine.dequantized_per_s))
    assert machine.as_dict()["device"] == machine.device
