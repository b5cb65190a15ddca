"""From C sources to a library in memory: compiled once, kept in the user's cache, found again by the sources' digest.

    library = load_library("budwood.engine.native", FLAGS)

A machine without a compiler is no fault: the answer is then the reason why there is none, and whoever asks has another way.
"""

import ctypes
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from budwood.identity import digest_bytes

COMPILE_TIMEOUT_S = 120


@dataclass(frozen=True)
class Missing:
    """Why there are no kernels on this machine."""

    reason: str


def load_library(package: str, flags: Sequence[str]) -> ctypes.CDLL | Missing:
    """Load the C sources of a package as one library, compiling them if they are not in the cache.

    Args:
        package: its `.c` and `.h` files are taken, all of them.
        flags: for the compiler; part of the name under which the library is kept.
    """
    texts = sources(package)
    parts = [part for name, text in texts.items() for part in (name.encode(), text)]
    key = digest_bytes(b"\0".join([*parts, *(flag.encode() for flag in flags), platform.machine().encode()]))
    built = cache_folder() / f"{key}.so"
    try:
        if not built.is_file():
            _compile(texts, flags, built)
        return ctypes.CDLL(str(built))
    except (OSError, subprocess.SubprocessError) as error:
        return Missing(_shown(error))


def sources(package: str) -> dict[str, bytes]:
    """Every C source and header of a package, by name."""
    folder = files(package)
    return {item.name: item.read_bytes() for item in sorted(folder.iterdir(), key=str) if item.name.endswith((".c", ".h"))}


def processor_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """What the processor can do, in Linux's words; nothing elsewhere."""
    if not path.is_file():
        return frozenset()
    line = next((line for line in path.read_text().splitlines() if line.startswith("flags")), "")
    return frozenset(line.partition(":")[2].split())


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "budwood" / "kernels"


def _compile(texts: Mapping[str, bytes], flags: Sequence[str], built: Path) -> None:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise OSError("no C compiler was found; install one, or name it in CC")
    built.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=built.parent) as name:
        folder = Path(name)
        for file, text in texts.items():
            (folder / file).write_bytes(text)
        units = [file for file in texts if file.endswith(".c")]
        _run([compiler, *flags, "-c", *units], folder)
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
