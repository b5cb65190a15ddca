"""What an n-gram is made of: words without punctuation, and single characters of scripts that put no spaces between words.

Quotes, dashes and full stops differ between copies of one text, so they part words and count for nothing.
"""

import ctypes
import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from budwood.native.build import Missing, load_library

if TYPE_CHECKING:
    from numpy import uint64
    from numpy.typing import NDArray

APART = (
    (0x80, 0xBF),  # Latin-1 signs; what of them are letters, normalisation has folded
    (0xD7, 0xD7),
    (0xF7, 0xF7),
    (0x2000, 0x2BFF),  # punctuation, currencies, arrows, mathematics, boxes
    (0x3000, 0x303F),
    (0xFE00, 0xFE6F),
    (0xFF00, 0xFF0F),
    (0x1F000, 0x1FAFF),
)
ALONE = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x9FFF),  # kana, Han
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
PLAIN_APART = "\x00-/:-@\\[-`{-\x7f"
FLAGS = ("-O3", "-fPIC")
MASK = 2**64 - 1
BYTE = 0x9E3779B97F4A7C15
"""This number stands in overlap.c, too."""


class Script(ctypes.Structure):
    _fields_ = (("ranges", ctypes.c_void_p), ("apart", ctypes.c_long), ("alone", ctypes.c_long))


@cache
def kernels() -> ctypes.CDLL | Missing:
    """Load the kernels, compiling them if they are not in the cache. Whole numbers only: any processor gives the same."""
    library = load_library("budwood.text.overlap", FLAGS)
    if not isinstance(library, Missing):
        held, size = ctypes.c_void_p, ctypes.c_long
        library.overlap_units.argtypes = (held, ctypes.c_char_p, size, held)
        library.overlap_find.argtypes = (held, held, ctypes.c_char_p, size, held, size)
        library.overlap_passes.argtypes = (ctypes.c_char_p, size, size)
        library.overlap_units.restype = library.overlap_find.restype = size
    return library


@cache
def script() -> Script:
    """Give the ranges of characters as the kernels take them."""
    points = [point for pair in (*APART, *ALONE) for point in pair]
    held = (ctypes.c_uint32 * len(points))(*points)
    made = Script(ctypes.addressof(held), len(APART), len(ALONE))
    made.held = held  # Lives as long as its address is used.
    return made


def split(text: str) -> list[str]:
    """Part a text into its units."""
    return _pattern().findall(text)


def hash_units(text: str, *, native: bool = True) -> "NDArray[uint64]":
    """Hash the units of a text, (units,)."""
    import numpy

    library = kernels() if native else Missing("not asked for")
    if isinstance(library, Missing):
        return numpy.array([_hash_word(unit) for unit in split(text)], numpy.uint64)
    data = text.encode("utf-8")
    units = numpy.empty(len(data), numpy.uint64)
    found = library.overlap_units(ctypes.byref(script()), data, len(data), units.ctypes.data)
    return units[:found]


@cache
def _pattern() -> re.Pattern[str]:
    apart, alone = (
        "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in pairs) for pairs in (APART, ALONE)
    )
    return re.compile(f"[{alone}]|[^{PLAIN_APART}{apart}{alone}]+")


@lru_cache(maxsize=1 << 16)
def _hash_word(unit: str) -> int:
    value = 0
    for byte in unit.encode("utf-8"):
        value = (value * BYTE + byte + 1) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)
