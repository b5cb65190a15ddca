"""The engine's C kernels as one library, and how tensors are handed to them.

`kernels()` gives the library, or the reason why there is none: another processor, no compiler. That is no fault: whoever asks
has another way, and says which one was taken.
"""

import ctypes
from functools import cache
from typing import Any, TypeAlias

from torch import Tensor

from budwood.native.build import Missing as Missing
from budwood.native.build import cache_folder as cache_folder
from budwood.native.build import load_library, processor_flags

NEEDED = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_bf16")
FLAGS = ("-O3", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512bf16", "-ffp-contract=off", "-fopenmp", "-fPIC")
TILE_FLAGS = ("amx_tile", "amx_bf16")
NOT_GRANTED = ("", "the system does not grant this process the tiles' memory", "the C compiler does not know AMX")
Argument: TypeAlias = "Tensor | int | float | None"


@cache
def kernels() -> ctypes.CDLL | Missing:
    """Load the kernels, compiling them if they are not in the cache."""
    absent = [flag for flag in NEEDED if flag not in processor_flags()]
    if absent:
        return Missing(f"this processor has no {absent[0]}")
    return load_library("budwood.engine.native", FLAGS)


@cache
def no_tiles() -> Missing | None:
    """Say why the kernels that multiply tiles (AMX) cannot run here; None: they can, and this process may use them."""
    library = kernels()
    if isinstance(library, Missing):
        return library
    absent = [flag for flag in TILE_FLAGS if flag not in processor_flags()]
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
