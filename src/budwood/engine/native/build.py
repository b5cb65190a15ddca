"""From a C source to a library in memory: compiled once, kept in the user's cache, found again by the source's digest.

`kernels()` gives the library, or the reason why there is none: another processor, no compiler. That is no fault: whoever asks
has another way, and says which one was taken.
"""

import ctypes
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from budwood.identity import digest_bytes

SOURCE = "attention.c"
NEEDED = ("avx512f", "avx512bw", "avx512vl", "avx512_bf16")
FLAGS = ("-O3", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512bf16", "-fopenmp", "-fPIC")
COMPILE_TIMEOUT_S = 120


@dataclass(frozen=True)
class Missing:
    """Why there are no kernels on this machine."""

    reason: str


@cache
def kernels() -> ctypes.CDLL | Missing:
    """Load the kernels, compiling them if they are not in the cache."""
    absent = [flag for flag in NEEDED if flag not in processor_flags()]
    if absent:
        return Missing(f"this processor has no {absent[0]}")
    source = files("budwood.engine.native").joinpath(SOURCE).read_bytes()
    key = digest_bytes(b"\0".join([source, *(flag.encode() for flag in FLAGS), platform.machine().encode()]))
    built = cache_folder() / f"{key}.so"
    try:
        if not built.is_file():
            _compile(source, built)
        return ctypes.CDLL(str(built))
    except (OSError, subprocess.SubprocessError) as error:
        return Missing(_shown(error))


def processor_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """What the processor can do, in Linux's words; nothing elsewhere."""
    if not path.is_file():
        return frozenset()
    line = next((line for line in path.read_text().splitlines() if line.startswith("flags")), "")
    return frozenset(line.partition(":")[2].split())


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "budwood" / "kernels"


def _compile(source: bytes, built: Path) -> None:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise OSError("no C compiler was found; install one, or name it in CC")
    built.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=built.parent) as name:
        folder = Path(name)
        (folder / SOURCE).write_bytes(source)
        _run([compiler, *FLAGS, "-c", SOURCE, "-o", "kernels.o"], folder)
        # Linked without an OpenMP of its own: torch has brought one, and two would fight over the cores.
        _run([compiler, "-shared", "kernels.o", "-o", "kernels.so", "-lm"], folder)
        os.replace(folder / "kernels.so", built)


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S)


def _shown(error: OSError | subprocess.SubprocessError) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        said = [line for line in str(error.stderr).splitlines() if "error" in line] or ["it gave no message"]
        return f"the C compiler refused: {said[0]}"
    return str(error)
