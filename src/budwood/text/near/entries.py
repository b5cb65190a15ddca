"""All texts' entries, and chains through those that share a band key.

A text costs some 110 bytes at a threshold of 0.8 (four for each of 21 bands, and a sketch of 16), one of 50 to 78 words,
which is entered by words and by characters, twice that. Keys are 32 bits wide: of five million entries some 3,000 pairs a band
meet by chance, and are told apart by their sketches.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from budwood.text.near.pack import Pack, batches, pack_texts
from budwood.text.near.scheme import Scheme, make_scheme
from budwood.text.near.sign import Signed, sign_pack

if TYPE_CHECKING:
    from numpy import int8, int32, int64, uint8, uint32, uint64
    from numpy.typing import NDArray


AT_ONCE = 1 << 20
"""Entries whose sketches are put in order at once."""


class SignedElsewhere(Protocol):
    """Columns of all M entries, text by text, read when they are asked for."""

    def band_keys(self, band: int, /) -> "NDArray[uint32]":
        """One band's keys, (M,)."""
        ...

    def sketches(self, half: int, /) -> "NDArray[uint64]":
        """The first 64 bits of their sketches, or the last, (M,)."""
        ...


@dataclass(frozen=True)
class Entries:
    """Texts 0..N−1, ready to be compared.

    Args:
        scheme: what follows from the threshold.
        owner: the text that an entry is of, rising, (M,).
        kind: `WORDS` or `CHARACTERS`, (M,).
        sketch: (M, 2).
        link: the entry before with the same key, or −1, (bands, capacity); columns from M on mean nothing.
        first: entries of text i are first[i]..first[i + 1], (N + 1,).
        is_short: whether a text is compared by characters with every other, (N,).
    """

    scheme: Scheme
    owner: "NDArray[int32]"
    kind: "NDArray[uint8]"
    sketch: "NDArray[uint64]"
    link: "NDArray[int32]"
    first: "NDArray[int32]"
    is_short: "NDArray[uint8]"


def sign_texts(texts: Iterable[str], count: int, *, threshold: float, threads: int = 1, native: bool = True) -> Entries:
    """Sign normalised texts and chain the entries that share a key.

    Args:
        texts: `count` of them, gone through once.
        count: how many.
        threshold: least Jaccard similarity of a hit.
        threads: batches signed at a time by the C kernel; the result is the same for any number.
        native: take the C kernels where there are any.
    """
    import numpy

    scheme = make_scheme(threshold)
    room = _Room(scheme, count)
    for pack, signed in _sign(texts, scheme, threads, native):
        room.add(pack, signed)
    if room.texts != count:
        raise ValueError(f"{room.texts:,} texts came, {count:,} were announced")
    filled = room.entries
    # The last keys are overwritten by links: both would be the largest arrays of the search.
    link = room.keys.view(numpy.int32)
    for band in range(scheme.bands.number):
        _chain(room.keys[band, :filled], link[band, :filled])
    return _entries(scheme, room.kind[:filled], room.sketch[:filled], link, room.number, room.is_short)


def join_entries(
    scheme: Scheme,
    kind: "NDArray[uint8]",
    number: "NDArray[int8]",
    is_short: "NDArray[uint8]",
    signed: "SignedElsewhere",
    order: "NDArray[int64]",
) -> Entries:
    """Chain entries of texts that were signed elsewhere.

    Args:
        scheme: by which they were signed.
        kind: of all entries, text by text.
        number: entries of each text.
        is_short: of each text.
        signed: gives the larger columns, one at a time, so that all are never held twice.
        order: the texts that are looked at, and in which order.
    """
    import numpy

    places = _places(number, order)
    link = numpy.empty((scheme.bands.number, len(places)), numpy.int32)
    for band in range(scheme.bands.number):
        keys = link[band].view(numpy.uint32)
        # With a mode the result is written in place; without, into a copy first.
        numpy.take(signed.band_keys(band), places, out=keys, mode="clip")
        _chain(keys, link[band])
    sketch = numpy.empty((len(places), 2), numpy.uint64)
    for half in (0, 1):
        whole = signed.sketches(half)
        for start in range(0, len(places), AT_ONCE):
            stop = start + AT_ONCE
            sketch[start:stop, half] = whole[places[start:stop]]
    kind = kind[places]
    del places
    return _entries(scheme, kind, sketch, link, number[order], is_short[order])


def _places(number: "NDArray[int8]", order: "NDArray[int64]") -> "NDArray[int64]":
    """Where the entries of texts lie, text by text in that order, among those of all: (M,)."""
    import numpy

    begins = numpy.cumsum(number, dtype=numpy.int64)
    begins -= number
    chosen = number[order]
    # Added up rather than counted: one array of the size of all entries is held here, not four.
    places = numpy.ones(int(chosen.sum(dtype=numpy.int64)), numpy.int64)
    firsts = numpy.cumsum(chosen, dtype=numpy.int64) - chosen
    begins = begins[order]
    filled = chosen > 0
    begins, firsts = begins[filled], firsts[filled]
    if len(begins):
        ends = begins[:-1] + chosen[filled][:-1]
        places[0] = begins[0]
        places[firsts[1:]] = begins[1:] - ends + 1
    return numpy.cumsum(places, out=places)


def _entries(
    scheme: Scheme,
    kind: "NDArray[uint8]",
    sketch: "NDArray[uint64]",
    link: "NDArray[int32]",
    number: "NDArray[int8]",
    is_short: "NDArray[uint8]",
) -> Entries:
    import numpy

    count = len(number)
    first = numpy.zeros(count + 1, numpy.int32)
    numpy.cumsum(number, out=first[1:])
    owner = numpy.repeat(numpy.arange(count, dtype=numpy.int32), number)
    return Entries(scheme, owner, kind, sketch, link, first, is_short)


class _Room:
    """Arrays with room for two entries a text: the operating system gives memory only to what is written."""

    def __init__(self, scheme: Scheme, count: int) -> None:
        import numpy

        self.texts = self.entries = 0
        self.keys: NDArray[uint32] = numpy.empty((scheme.bands.number, 2 * count), numpy.uint32)
        self.kind = numpy.empty(2 * count, numpy.uint8)
        self.sketch = numpy.empty((2 * count, 2), numpy.uint64)
        self.number = numpy.empty(count, numpy.int8)
        self.is_short = numpy.empty(count, numpy.uint8)

    def add(self, pack: Pack, signed: Signed) -> None:
        import numpy

        size, more = len(pack.kinds), len(signed.kinds)
        if self.texts + size <= len(self.number):
            entries, texts = slice(self.entries, self.entries + more), slice(self.texts, self.texts + size)
            self.keys[:, entries] = signed.keys.T
            self.kind[entries], self.sketch[entries] = signed.kinds, signed.sketches
            self.number[texts] = numpy.bincount(signed.texts, minlength=size)
            self.is_short[texts] = pack.is_short
            self.entries += more
        self.texts += size


def _sign(texts: Iterable[str], scheme: Scheme, threads: int, native: bool) -> Iterator[tuple[Pack, Signed]]:
    """Sign batch by batch, in order; the kernel lets other threads run, and a few batches are under way at a time."""
    if threads == 1:
        for batch in batches(texts):
            pack = pack_texts(batch, scheme.threshold)
            yield pack, sign_pack(pack, scheme, native=native)
        return
    waiting: deque[tuple[Pack, Future[Signed]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for batch in batches(texts):
            pack = pack_texts(batch, scheme.threshold)
            waiting.append((pack, pool.submit(sign_pack, pack, scheme, native=native)))
            if len(waiting) > 2 * threads:
                pack, signed = waiting.popleft()
                yield pack, signed.result()
        while waiting:
            pack, signed = waiting.popleft()
            yield pack, signed.result()


def _chain(keys: "NDArray[uint32]", link: "NDArray[int32]") -> None:
    """Turn one band's keys into links, in the same memory."""
    import numpy

    # Key and place in one number: sorting needs no stable order and no second array, and is the same everywhere.
    both = numpy.empty(len(keys), "<u8")
    halves = both.view("<u4").reshape(-1, 2)
    halves[:, 0] = numpy.arange(len(keys), dtype=numpy.uint32)
    halves[:, 1] = keys
    both.sort()
    place, key = halves.T
    same = key[1:] == key[:-1]
    link[:] = -1
    link[place[1:][same]] = place[:-1][same]
