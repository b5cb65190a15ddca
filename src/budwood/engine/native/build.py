"""The engine's C kernels as one library, and how tensors are handed to them.

`kernels()` gives the library, or the reason why there is none: another processor, no compiler. That is no fault: whoever asks
has another way, and says which one was taken.
"""

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from torch import Tensor

from budwood.native.build import Missing as Missing
from budwood.native.build import cache_folder as cache_folder
from budwood.native.build import load_library, processor_flags

FLAGS = ("-O3", "-ffp-contract=off", "-fopenmp", "-fPIC")
TILE_FLAGS = ("amx_tile", "amx_bf16")
NOT_GRANTED = ("", "the system does not grant this process the tiles' memory", "the C compiler does not know AMX")
Argument: TypeAlias = "Tensor | int | float | None"


@dataclass(frozen=True)
class Instructions:
    """What the kernels are compiled for.

    Args:
        needed: of the processor, in Linux's words.
        flags: for the compiler.
    """

    needed: tuple[str, ...]
    flags: tuple[str, ...]


AVX512 = Instructions(
    ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_bf16"),
    ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512bf16"),
)
AVX2 = Instructions(("avx2", "fma"), ("-mavx2", "-mfma"))


@cache
def kernels() -> ctypes.CDLL | Missing:
    """Load the kernels, compiling them if they are not in the cache."""
    known = instructions()
    return known if isinstance(known, Missing) else load_library("budwood.engine.native", (*FLAGS, *known.flags))


@cache
def instructions() -> Instructions | Missing:
    """Name the best instructions that this processor has and the kernels know."""
    has = processor_flags()
    for known in (AVX512, AVX2):
        if has.issuperset(known.needed):
            return known
    return Missing(f"this processor has no {next(flag for flag in AVX2.needed if flag not in has)}")


def widens() -> bool:
    """Whether kernels run here that widen bfloat16 to float32, since the processor has no instruction that multiplies it."""
    return instructions() == AVX2 and not isinstance(kernels(), Missing)


@cache
def no_tiles() -> Missing | None:
    """Say why the kernels that multiply tiles (AMX) cannot run here; None: they can, and this process may use them."""
    library = kernels()
    if isinstance(library, Missing):
        return library
    absent = [flag for flag in (*AVX512.needed, *TILE_FLAGS) if flag not in processor_flags()]
    if absent:
        return Missing(f"this processor has no {absent[0]}")
    refused: int = library.budwood_tiles_granted()
    return Missing(NOT_GRANTED[refused]) if refused else None


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


def _as_c(argument: Argument) -> Any:
    if isinstance(argument, float):
        return ctypes.c_float(argument)
    if isinstance(argument, int):
        return ctypes.c_long(argument)
    return ctypes.c_void_p(None if argument is None else argument.data_ptr())
