"""An index of the n-grams of a few fixed texts, and what a text that comes by shares with each of them.

Two lengths: 8 units, of which the share of a text is measured that one other text covers, and 13 units, of which one alone is
called a run. N-grams that many of the fixed texts have in common are their boilerplate, and count for nothing; what a text
has besides is its countable part.
"""

import ctypes
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from budwood.native.build import Missing
from budwood.text.near.sign import mix
from budwood.text.overlap.units import hash_units, kernels, script

if TYPE_CHECKING:
    from numpy import bool_, int32, int64, uint64
    from numpy.typing import NDArray

SHORT, LONG = 8, 13
UNIT, SALT = 0xD6E8FEB86659FD93, 0x2545F4914F6CDD1D
"""These numbers stand in overlap.c, too."""
COMMON_TEXTS, COMMON_SHARE, COMMON_LEAST = 10, 0.1, 3
"""An n-gram is boilerplate in more than so many of the texts, or, of few texts, in more than this share and this number."""
SPARE_BITS = 6
"""The bit map has at least 64 bits for each n-gram, so that one that does not occur is looked for in vain once in 64 times."""
ROOM = 256
RUN = -1
"""Stands for a place where an n-gram of 13 begins."""
BARRIER = "\x1e"
"""No n-gram spans it; white space to Python, so that no normalised text holds it."""


class Shared(NamedTuple):
    """What is shared with one of the fixed texts.

    Args:
        text: its place among them.
        covered: its units inside a shared n-gram of 8.
        countable: its units inside any n-gram of 8 that counts; 0 where it has none.
        run: whether one of its n-grams of 13 is shared.
    """

    text: int
    covered: int
    countable: int
    run: bool

    @property
    def coverage(self) -> float:
        return self.covered / self.countable if self.countable else 0.0


@dataclass(frozen=True)
class Grams:
    """Where the n-grams of one length stand.

    Args:
        hashes: (n-grams,), ascending.
        starts: where an n-gram's places begin, (n-grams + 1,).
        texts: in which text, (places,).
        places: at which unit, (places,).
        bits: a bit for each `hash >> shift` that occurs.
    """

    hashes: "NDArray[uint64]"
    starts: "NDArray[int64]"
    texts: "NDArray[int32]"
    places: "NDArray[int32]"
    bits: "NDArray[uint64]"
    shift: int


class _Grams(ctypes.Structure):
    _fields_ = (
        ("count", ctypes.c_long),
        ("shift", ctypes.c_long),
        *((name, ctypes.c_void_p) for name in ("hashes", "starts", "texts", "places", "bits")),
    )


@dataclass(frozen=True)
class Index:
    """The index.

    Args:
        short: n-grams of 8.
        long: n-grams of 13.
        units: of each text, (texts,).
        countable: of each text, its units that can be covered, (texts,).
    """

    short: Grams
    long: Grams
    units: "NDArray[int64]"
    countable: "NDArray[int32]"

    def shared(self, parts: Sequence[str], *, native: bool = True) -> list[Shared]:
        """Say what a text shares with each of the fixed ones; those that share nothing are left out.

        Args:
            parts: the text, normalised, in parts that no n-gram spans.
            native: take the C kernel where there is one.
        """
        library = kernels() if native else Missing("not asked for")
        found = self._find(parts) if isinstance(library, Missing) else self._find_in_c(library, parts)
        if not found:
            return []
        places: dict[int, set[int]] = defaultdict(set)
        for text, place in found:
            places[text].add(place)
        return [self._shared(text, places[text]) for text in sorted(places)]

    def _shared(self, text: int, places: set[int]) -> Shared:
        return Shared(text, _covered(places - {RUN}), int(self.countable[text]), RUN in places)

    def _find(self, parts: Sequence[str]) -> list[tuple[int, int]]:
        units = [hash_units(part, native=False) for part in parts]
        found = []
        for grams, n in ((self.short, SHORT), (self.long, LONG)):
            places = [pair for part in units for one in gram_hashes(part, n) for pair in _look_up(grams, int(one))]
            found += places if n == SHORT else [(text, RUN) for text, _ in places]
        return found

    def _find_in_c(self, library: ctypes.CDLL, parts: Sequence[str]) -> list[tuple[int, int]]:
        data = BARRIER.join(parts).encode("utf-8")
        room = ROOM
        while True:
            pairs = (ctypes.c_int32 * (2 * room))()
            found = library.overlap_find(ctypes.byref(script()), self._handles, data, len(data), pairs, room)
            if found < 0:
                raise MemoryError("no room for the words of a text")
            if found <= room:
                return list(zip(pairs[: 2 * found : 2], pairs[1 : 2 * found : 2], strict=True))
            room = found

    @cached_property
    def _handles(self) -> "ctypes.Array[_Grams]":
        return (_Grams * 2)(*(_handle(grams) for grams in (self.short, self.long)))


def index_texts(
    texts: Sequence[str], *, sets: Sequence[int] | None = None, ignore: Iterable[str] = (), native: bool = True
) -> Index:
    """Index some texts.

    Args:
        texts: normalised; a text may be empty.
        sets: of each text the number of its set, from 0; boilerplate is what a set's texts have in common. None: one set.
        ignore: texts whose n-grams count for nothing.
        native: take the C kernel where there is one.
    """
    import numpy

    units = [hash_units(text, native=native) for text in texts]
    ignored = [hash_units(text, native=native) for text in ignore]
    which = numpy.zeros(len(texts), numpy.int64) if sets is None else numpy.array(sets, numpy.int64)
    seen: dict[tuple[int, str], int] = {}
    first = numpy.array([seen.setdefault(key, i) for i, key in enumerate(zip(which.tolist(), texts, strict=True))], numpy.int64)
    lengths = numpy.array([len(one) for one in units], numpy.int64)
    short = _grams(_Given(units, lengths >= SHORT, first, which, ignored), SHORT)
    long = _grams(_Given(units, lengths >= LONG, first, which, ignored), LONG)
    inside = numpy.zeros(int(lengths.sum()) + 1, bool)
    begins = numpy.cumsum(lengths) - lengths
    at = begins[short.texts] + short.places
    for k in range(SHORT):
        inside[at + k] = True
    counted = numpy.concatenate([[0], numpy.cumsum(inside)])
    countable = (counted[begins + lengths] - counted[begins]).astype(numpy.int32)
    return Index(short, long, lengths, countable)


def gram_hashes(units: "NDArray[uint64]", n: int) -> "NDArray[uint64]":
    """Hash every n units in a row, (units − n + 1,)."""
    import numpy

    count = max(len(units) - n + 1, 0)
    sums = numpy.full(count, SALT, numpy.uint64)
    power = 1
    for k in range(n):
        sums += units[k : k + count] * numpy.uint64(power)
        power = power * UNIT % 2**64
    return mix(sums)


class _Given(NamedTuple):
    """Texts as units; `wanted`: which are indexed; `first`: the first text of the same set with the same words."""

    units: "Sequence[NDArray[uint64]]"
    wanted: "NDArray[bool_]"
    first: "NDArray[int64]"
    sets: "NDArray[int64]"
    ignored: "Sequence[NDArray[uint64]]"


def _grams(given: _Given, n: int) -> Grams:
    import numpy

    hashed = [gram_hashes(one if use else one[:0], n) for one, use in zip(given.units, given.wanted, strict=True)]
    counts = numpy.array([len(one) for one in hashed], numpy.int64)
    hashes = numpy.concatenate([numpy.empty(0, numpy.uint64), *hashed])
    texts = numpy.repeat(numpy.arange(len(given.units)), counts)
    places = numpy.arange(len(hashes)) - numpy.repeat(numpy.cumsum(counts) - counts, counts)
    unwanted = [numpy.empty(0, numpy.uint64), *(gram_hashes(one, n) for one in given.ignored)]
    drop = _boilerplate(given, hashes, texts) | numpy.isin(hashes, numpy.concatenate(unwanted))
    order = numpy.flatnonzero(~drop)
    order = order[numpy.argsort(hashes[order], kind="stable")]
    kept, starts = numpy.unique(hashes[order], return_index=True)
    wide = max(len(kept) - 1, 1).bit_length() + SPARE_BITS
    bits = numpy.zeros(max(1 << wide >> 6, 1), numpy.uint64)
    spot = kept >> numpy.uint64(64 - wide)
    numpy.bitwise_or.at(bits, (spot >> numpy.uint64(6)).astype(numpy.int64), numpy.uint64(1) << (spot & numpy.uint64(63)))
    return Grams(
        kept,
        numpy.append(starts, len(order)).astype(numpy.int64),
        texts[order].astype(numpy.int32),
        places[order].astype(numpy.int32),
        bits,
        64 - wide,
    )


def _boilerplate(given: _Given, hashes: "NDArray[uint64]", texts: "NDArray[int64]") -> "NDArray[bool_]":
    """Say of each n-gram whether too many different texts of its set hold it."""
    import numpy

    if not len(hashes):
        return numpy.empty(0, bool)
    number = int(given.sets.max()) + 1
    _, known = numpy.unique(hashes, return_inverse=True)
    held = known * number + given.sets[texts]
    pairs = numpy.unique(numpy.stack([held, given.first[texts]]), axis=1)
    of_set = numpy.bincount(given.sets[numpy.unique(given.first[given.wanted])], minlength=number)
    most = numpy.minimum(COMMON_TEXTS, numpy.maximum(COMMON_LEAST, COMMON_SHARE * of_set))
    often: NDArray[bool_] = numpy.bincount(pairs[0]) > numpy.resize(most, int(held.max()) + 1)
    drop: NDArray[bool_] = often[held]
    return drop


def _look_up(grams: Grams, value: int) -> list[tuple[int, int]]:
    import numpy

    at = int(numpy.searchsorted(grams.hashes, numpy.uint64(value)))
    if at == len(grams.hashes) or int(grams.hashes[at]) != value:
        return []
    here = slice(int(grams.starts[at]), int(grams.starts[at + 1]))
    return list(zip(grams.texts[here].tolist(), grams.places[here].tolist(), strict=True))


def _covered(places: Iterable[int]) -> int:
    """Count the units inside n-grams of 8 that begin at these places."""
    covered, end = 0, -1
    for place in sorted(places):
        covered += place + SHORT - max(place, end)
        end = place + SHORT
    return covered


def _handle(grams: Grams) -> _Grams:
    arrays = (grams.hashes, grams.starts, grams.texts, grams.places, grams.bits)
    return _Grams(len(grams.hashes), grams.shift, *(array.ctypes.data for array in arrays))
