"""The C kernels of the search, where the machine has a compiler; whoever asks has numpy as the other way."""

import ctypes
from functools import cache
from typing import TYPE_CHECKING, Any

from budwood.native.build import Missing, load_library, processor_flags

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_MEMORY, NOT_READ = 1, 2
FLAGS = ("-O3", "-fPIC")


@cache
def kernels() -> ctypes.CDLL | Missing:
    """Load the kernels, compiling them if they are not in the cache. Whole numbers only: any processor gives the same."""
    flags = processor_flags()
    wide = ("-mavx2",) if "avx2" in flags else ()
    wider = ("-mavx512f", "-mavx512dq", "-mprefer-vector-width=512") if {"avx512f", "avx512dq"} <= flags else ()
    return load_library("budwood.text.near", (*FLAGS, *wide, *wider))


def address(array: "NDArray[Any]") -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
