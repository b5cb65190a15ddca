"""From C sources to a library in memory: compiled once, kept in the user's cache, found again by the sources' digest.

`kernels()` gives the library, or the reason why there is none: another processor, no compiler. That is no fault: whoever asks
has another way, and says which one was taken.
"""

import ctypes
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from budwood.identity import digest_bytes

NEEDED = ("avx512f", "avx512bw", "avx512vl", "avx512_bf16")
FLAGS = ("-O3", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512bf16", "-ffp-contract=off", "-fopenmp", "-fPIC")
COMPILE_TIMEOUT_S = 120
Argument: TypeAlias = "Tensor | int | float | None"


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
    texts = sources()
    parts = [part for name, text in texts.items() for part in (name.encode(), text)]
    key = digest_bytes(b"\0".join([*parts, *(flag.encode() for flag in FLAGS), platform.machine().encode()]))
    built = cache_folder() / f"{key}.so"
    try:
        if not built.is_file():
            _compile(texts, built)
        return ctypes.CDLL(str(built))
    except (OSError, subprocess.SubprocessError) as error:
        return Missing(_shown(error))


def call(name: str, *arguments: Argument) -> None:
    """Call a kernel: tensors go as their addresses, whole numbers as long, others as float, None as no address.

    Raises:
        MemoryError: no room for its scratch.
        RuntimeError: there are no kernels here; ask `kernels` first.
    """
    library = kernels()
    if isinstance(library, Missing):
        raise RuntimeError(f"there are no C kernels here: {library.reason}")
    if getattr(library, name)(*map(_as_c, arguments)):
        raise MemoryError(f"{name} found no room for its scratch")


def sources() -> dict[str, bytes]:
    """Every C source and header of this package, by name."""
    folder = files("budwood.engine.native")
    return {item.name: item.read_bytes() for item in sorted(folder.iterdir(), key=str) if item.name.endswith((".c", ".h"))}


def processor_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """What the processor can do, in Linux's words; nothing elsewhere."""
    if not path.is_file():
        return frozenset()
    line = next((line for line in path.read_text().splitlines() if line.startswith("flags")), "")
    return frozenset(line.partition(":")[2].split())


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "budwood" / "kernels"


def _as_c(argument: Argument) -> Any:
    if isinstance(argument, float):
        return ctypes.c_float(argument)
    if isinstance(argument, int):
        return ctypes.c_long(argument)
    return ctypes.c_void_p(None if argument is None else argument.data_ptr())


def _compile(texts: Mapping[str, bytes], built: Path) -> None:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise OSError("no C compiler was found; install one, or name it in CC")
    built.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=built.parent) as name:
        folder = Path(name)
        for file, text in texts.items():
            (folder / file).write_bytes(text)
        units = [file for file in texts if file.endswith(".c")]
        _run([compiler, *FLAGS, "-c", *units], folder)
        # Linked without an OpenMP of its own: torch has brought one, and two would fight over the cores.
        _run([compiler, "-shared", *(f"{Path(unit).stem}.o" for unit in units), "-o", "kernels.so", "-lm"], folder)
        os.replace(folder / "kernels.so", built)


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S)


def _shown(error: OSError | subprocess.SubprocessError) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        said = [line for line in str(error.stderr).splitlines() if "error" in line] or ["it gave no message"]
        return f"the C compiler refused: {said[0]}"
    return str(error)
