"""Rows → their keys, in the kernel those that it knows, in Python the rest."""

import ctypes
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from budwood.native.build import Missing, load_library
from budwood.prepare.columns import KEY_BYTES
from budwood.prepare.row import Row
from budwood.prepare.said import key, says
from budwood.prepare.split import key_of, name_of, spot_of

if TYPE_CHECKING:
    from numpy import int64, uint8
    from numpy.typing import NDArray

FLAGS = ("-O3", "-fPIC")


class Keys(NamedTuple):
    """What some rows are known by.

    Args:
        turns: text of everything before the answer, normalised, in UTF-8; see `said.Says`.
        keys: prompt, answer, turns, meaning, and the prompt's name and spot, (N, KEY_BYTES).
    """

    turns: Sequence[bytes]
    keys: "NDArray[uint8]"


@cache
def kernel() -> ctypes.CDLL | Missing:
    """Load the kernel, compiling it if it is not in the cache. Whole numbers only: any processor gives the same."""
    return load_library("budwood.prepare.keys", FLAGS)


def keys_of(rows: Sequence[Row], seed: int, *, native: bool = True) -> Keys:
    """Key rows; `seed` is that of the split, and `native` takes the C kernel where there is one.

    Raises:
        MemoryError: the kernel found no room for a text.
    """
    import numpy

    library = kernel() if native else Missing("not asked for")
    turns = [b""] * len(rows)
    keys = numpy.empty((len(rows), KEY_BYTES), numpy.uint8)
    pairs = [] if isinstance(library, Missing) else [place for place, row in enumerate(rows) if _is_pair(row)]
    if pairs:
        texts = [message.content.encode("ascii") for place in pairs for message in rows[place].messages]
        ends = numpy.cumsum(numpy.fromiter(map(len, texts), numpy.int64, len(texts)))
        begins = numpy.concatenate([numpy.zeros(1, numpy.int64), ends[:-1]])
        found = keys_of_pairs(b"".join(texts), begins, ends, seed)
        keys[pairs] = found.keys
        for place, text in zip(pairs, found.turns, strict=True):
            turns[place] = text
    if len(pairs) < len(rows):
        known = frozenset(pairs)
        for place, row in enumerate(rows):
            if place not in known:
                turns[place], held = _in_python(row, seed)
                keys[place] = numpy.frombuffer(held, numpy.uint8)
    return Keys(turns, keys)


def keys_of_pairs(blob: bytes, begins: "NDArray[int64]", ends: "NDArray[int64]", seed: int) -> Keys:
    """Key ASCII texts, question and answer in turn, where there is a kernel: text k is `blob[begins[k]:ends[k]]`; (2N,).

    Raises:
        MemoryError: the kernel found no room for a text.
    """
    import numpy

    library = kernel()
    assert not isinstance(library, Missing), library.reason
    rows, given = len(ends) // 2, key_of(seed)
    turns, turn_ends = numpy.empty(len(blob), numpy.uint8), numpy.empty(rows + 1, numpy.int64)
    keys = numpy.empty((rows, KEY_BYTES), numpy.uint8)
    at = (ctypes.c_void_p(array.ctypes.data) for array in (begins, ends))
    made = (ctypes.c_void_p(array.ctypes.data) for array in (turns, turn_ends, keys))
    if library.keys_of_pairs(blob, *at, ctypes.c_long(rows), given, ctypes.c_long(len(given)), *made):
        raise MemoryError("no room for the text of a row")
    places = turn_ends.tolist()
    held = turns[: places[-1]].tobytes()
    return Keys([held[start:end] for start, end in pairwise(places)], keys)


def named(text: bytes, seed: int) -> bytes:
    """Give the name that a text lends its group, and where that lies."""
    name = name_of(text, seed)
    return name + spot_of(name, seed)


def _is_pair(row: Row) -> bool:
    """Whether it is one ASCII text and another that answers it, and nothing else."""
    if len(row.messages) != 2 or row.tools:
        return False
    asked, answered = row.messages
    if asked.role == "system" or asked.calls or answered.calls:
        return False
    return asked.content.isascii() and answered.content.isascii()


def _in_python(row: Row, seed: int) -> tuple[bytes, bytes]:
    said = says(row)
    keys = (said.prompt, said.answer, key(said.turns), said.meaning, named(said.prompt, seed))
    return said.turns.encode("utf-8"), b"".join(keys)
