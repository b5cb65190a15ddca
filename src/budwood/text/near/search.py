"""Which texts repeat an earlier one, and which lie in one group: the search, from entries to results.

The order of texts decides: each is compared with those before it. A text that goes is not compared with again, so that a set of
n copies costs n comparisons, not n²; in a chain longer than `LONGEST` only that many of the nearest are looked at, and the
result says how many texts met such a chain.
"""

import ctypes
from array import array
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from budwood.native.build import Missing
from budwood.text.near.entries import Entries
from budwood.text.near.kernels import NO_MEMORY, NOT_READ, kernels
from budwood.text.near.walk import LONGEST, Walk, walk_texts

if TYPE_CHECKING:
    from numpy import float64, int32, int64, uint8, uint64
    from numpy.typing import NDArray

STEP = 4096
"""Texts between two calls of `tick`."""


@dataclass(frozen=True)
class Terms:
    """Who may repeat whom: text i an earlier one j if they mean the same and `asks[i] & offers[j]`.

    Args:
        meaning: 128 bits, (N, 2); what has to be equal besides the likeness of the texts.
        asks: bits, (N,); 0: repeats nothing.
        offers: bits, (N,); 0: is repeated by nothing.
        goes: whether a text that repeats another is out from there on, (N,).
        member: which member of the groups a text is, (N,).
    """

    meaning: "NDArray[uint64]"
    asks: "NDArray[uint8]"
    offers: "NDArray[uint8]"
    goes: "NDArray[uint8]"
    member: "NDArray[int64]"


@dataclass(frozen=True)
class Repeats:
    """What was found.

    Args:
        twin: the first text before that a text repeats, or −1, (N,).
        alike: their true Jaccard similarity, (N,).
        crowded: texts that shared a key with more than `LONGEST` others.
        by: "C kernels", or "numpy" and the reason.
    """

    twin: "NDArray[int32]"
    alike: "NDArray[float64]"
    crowded: int
    by: str


def find_repeats(
    entries: Entries,
    terms: Terms,
    read: Callable[[int], str],
    parent: "array[int] | NDArray[int64]",
    *,
    tick: Callable[[int], None] = lambda done: None,
    native: bool = True,
) -> Repeats:
    """Compare texts with those before them; what is near lies in one group.

    Args:
        entries: of all texts; used up by the search, whose chains it shortens.
        terms: who may repeat whom.
        read: gives a text again; called for those that have to be compared, several times for some.
        parent: of each member of the groups (64 bits): a union-find forest whose roots are smallest members.
        tick: called with the number of texts looked at.
        native: take the C kernels where there are any.

    Raises:
        MemoryError: no room for a text's shingles.
        Exception: whatever `read` raises.
    """
    import numpy

    walk = _make_walk(entries, terms, numpy.frombuffer(parent, numpy.int64))
    library = kernels() if native else Missing("not asked for")
    texts = len(entries.is_short)
    step = _python_step(walk, read) if isinstance(library, Missing) else _native_step(library, walk, read)
    for start in range(0, texts, STEP):
        stop = min(start + STEP, texts)
        step(start, stop)
        tick(stop)
    by = f"numpy: {library.reason}" if isinstance(library, Missing) else "C kernels"
    return Repeats(walk.twin, walk.alike, int(walk.crowded[0]), by)


def _make_walk(entries: Entries, terms: Terms, parent: "NDArray[int64]") -> Walk:
    import numpy

    texts = len(entries.is_short)
    return Walk(
        bands=entries.scheme.bands.number,
        stride=entries.link.shape[1],
        longest=LONGEST,
        least=entries.scheme.least_equal,
        threshold=entries.scheme.threshold,
        owner=entries.owner,
        kind=entries.kind,
        sketch=entries.sketch,
        link=entries.link,
        first=entries.first,
        is_short=entries.is_short,
        meaning=terms.meaning,
        asks=terms.asks,
        offers=terms.offers,
        goes=terms.goes,
        member=terms.member,
        parent=parent,
        gone=numpy.zeros(texts, numpy.uint8),
        seen=numpy.full(texts, -1, numpy.int32),
        twin=numpy.full(texts, -1, numpy.int32),
        alike=numpy.zeros(texts, numpy.float64),
        crowded=numpy.zeros(1, numpy.int64),
    )


def _python_step(walk: Walk, read: Callable[[int], str]) -> Callable[[int, int], None]:
    return lambda start, stop: walk_texts(walk, start, stop, read)


def _native_step(library: ctypes.CDLL, walk: Walk, read: Callable[[int], str]) -> Callable[[int, int], None]:
    desk = _Desk(read)
    callback = _READ(desk.lay)
    given = _as_c(walk, desk)

    def step(start: int, stop: int) -> None:
        outcome = library.near_walk(ctypes.byref(given), ctypes.c_long(start), ctypes.c_long(stop), callback)
        if outcome == NOT_READ and desk.failure is not None:
            raise desk.failure
        if outcome == NO_MEMORY:
            raise MemoryError("no room for the shingles of a text")

    return step


_READ = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, ctypes.c_long)


class _Desk:
    """Where texts lie while the kernel compares them: two places for its own text (one a kind), one for the other."""

    def __init__(self, read: Callable[[int], str]) -> None:
        self._read = read
        self._buffers = [bytearray(4096) for _ in range(3)]
        self.addresses = (ctypes.c_void_p * 3)(*map(_where, self._buffers))
        self.failure: BaseException | None = None

    def lay(self, text: int, slot: int) -> int:
        # An exception cannot pass through C: it is kept, the kernel returns at once, and `step` raises it.
        try:
            data = self._read(text).encode("utf-8")
        except BaseException as failure:
            self.failure = failure
            return -1
        if len(data) > len(self._buffers[slot]):
            self._buffers[slot] = bytearray(2 * len(data))
            self.addresses[slot] = _where(self._buffers[slot])
        self._buffers[slot][: len(data)] = data
        return len(data)


def _where(buffer: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def _as_c(walk: Walk, desk: _Desk) -> ctypes.Structure:
    """Lay out a walk as near.c declares it: whole numbers long, arrays as addresses, then where texts are laid."""
    types: dict[type, Any] = {int: ctypes.c_long, float: ctypes.c_double}
    values = [(field.name, getattr(walk, field.name)) for field in fields(walk)]

    class Given(ctypes.Structure):
        _fields_ = [
            *((name, types.get(type(value), ctypes.c_void_p)) for name, value in values),
            ("text", ctypes.c_void_p),
        ]

    given = Given()
    for name, value in values:
        setattr(given, name, value if type(value) in types else value.ctypes.data)
    given.text = ctypes.addressof(desk.addresses)
    return given
