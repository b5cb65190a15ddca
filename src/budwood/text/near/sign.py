"""Signatures: a text's entries, each with its band keys and its sketch.

`sign_pack` takes the C kernel or numpy; both compute the same whole numbers (tests/text/near). A unit is a word or a code
point, a shingle `SHINGLE` units in a row, or all of a shorter text. A permutation is x → a·x + b modulo 2³², a odd, over the
upper half of the shingle's mixed hash; held to be without bias by tests/text/near/test_sign.py.
"""

import ctypes
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from budwood.native.build import Missing
from budwood.text.near.kernels import address, kernels
from budwood.text.near.pack import BY_CHARACTERS, BY_WORDS, Pack
from budwood.text.near.scheme import PERMUTATIONS, Scheme
from budwood.text.similarity import SHINGLE

if TYPE_CHECKING:
    from numpy import int64, uint8, uint32, uint64
    from numpy.typing import NDArray

WORDS, CHARACTERS = 0, 1
BYTE, UNIT, BAND = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xA24BAED4963EE407
SALT = (0x2545F4914F6CDD1D, 0x5851F42D4C957F2D)
BIT = 0x9E3779B1
"""These numbers stand in near.c, too."""


class Signed(NamedTuple):
    """Entries of a pack, in the order of its texts, words before characters.

    Args:
        kinds: `WORDS` or `CHARACTERS`, (entries,).
        texts: place in the pack, (entries,).
        keys: one for each band, (entries, bands).
        sketches: 128 bits, (entries, 2).
    """

    kinds: "NDArray[uint8]"
    texts: "NDArray[int64]"
    keys: "NDArray[uint32]"
    sketches: "NDArray[uint64]"


def sign_pack(pack: Pack, scheme: Scheme, *, native: bool = True) -> Signed:
    """Sign texts.

    Args:
        pack: the texts.
        scheme: how minima become keys.
        native: take the C kernel where there is one.

    Raises:
        MemoryError: the kernel found no room for a text's shingles.
    """
    import numpy

    asked = numpy.stack([pack.kinds & BY_WORDS, pack.kinds & BY_CHARACTERS], axis=1)
    texts, kinds = numpy.nonzero(asked)
    library = kernels() if native else Missing("not asked for")
    number, rows = scheme.bands
    signed = Signed(
        kinds.astype(numpy.uint8),
        texts,
        numpy.empty((len(texts), number), numpy.uint32),
        numpy.empty((len(texts), 2), numpy.uint64),
    )
    if not isinstance(library, Missing):
        _sign_in_c(library, pack, scheme, signed)
        return signed
    for kind in (WORDS, CHARACTERS):
        mine = kinds == kind
        if mine.any():
            minima = _minima(pack, texts[mine], kind)
            signed.keys[mine], signed.sketches[mine] = _keys(minima, kind, number, rows), _sketches(minima)
    return signed


def _sign_in_c(library: ctypes.CDLL, pack: Pack, scheme: Scheme, signed: Signed) -> None:
    sizes = (ctypes.c_long(scheme.bands.number), ctypes.c_long(scheme.bands.rows))
    given = (address(pack.ends), address(pack.kinds), ctypes.c_long(len(pack.kinds)), *(address(one) for one in permutations()))
    if library.near_sign(pack.blob, *given, *sizes, address(signed.keys), address(signed.sketches)):
        raise MemoryError("no room for the shingles of a text")


@cache
def permutations() -> "tuple[NDArray[uint32], NDArray[uint32]]":
    """Give a (odd) and b of the 128 permutations, from a counter that is mixed: no random generator's version matters."""
    import numpy

    with numpy.errstate(over="ignore"):
        drawn = mix(numpy.arange(1, 2 * PERMUTATIONS + 1, dtype=numpy.uint64) * numpy.uint64(BYTE)) >> numpy.uint64(32)
    values = drawn.astype(numpy.uint32)
    return values[:PERMUTATIONS] | numpy.uint32(1), values[PERMUTATIONS:].copy()


def mix(values: "NDArray[uint64]") -> "NDArray[uint64]":
    """Spread every bit over all bits (the finaliser of SplitMix64)."""
    from numpy import uint64

    values = (values ^ (values >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> uint64(27))) * uint64(0x94D049BB133111EB)
    return values ^ (values >> uint64(31))


class Hashed(NamedTuple):
    """Hashes of shingles, and where those of each text begin, (texts + 1,)."""

    hashes: "NDArray[uint64]"
    starts: "NDArray[int64]"


def shingle_hashes(pack: Pack, kind: int) -> Hashed:
    """Hash every shingle of every text with numpy; what near.c calls `part`."""
    import numpy

    units, counts = _words(pack) if kind == WORDS else _characters(pack)
    starts = numpy.concatenate([[0], numpy.cumsum(counts)]).astype(numpy.int64)
    shingles = numpy.where(counts < SHINGLE, counts > 0, counts - SHINGLE + 1)
    begins = numpy.concatenate([[0], numpy.cumsum(shingles)]).astype(numpy.int64)
    text = numpy.repeat(numpy.arange(len(counts)), shingles)
    first = numpy.arange(begins[-1]) - begins[text] + starts[text]
    sums = numpy.full(len(first), SALT[kind], numpy.uint64)
    power = 1
    padded = numpy.concatenate([units, numpy.zeros(SHINGLE, numpy.uint64)])
    for k in range(SHINGLE):
        inside = first + k < starts[text + 1]
        sums += numpy.where(inside, padded[first + k], numpy.uint64(0)) * numpy.uint64(power)
        power = power * UNIT % 2**64
    return Hashed(mix(sums), begins)


def _words(pack: Pack) -> "tuple[NDArray[uint64], NDArray[int64]]":
    """Hash words: the value of their bytes as digits. Spaces add nothing, wherever they stand."""
    import numpy

    data = numpy.frombuffer(pack.blob, numpy.uint8)
    letter = data != ord(" ")
    before, after = numpy.zeros(len(data), bool), numpy.zeros(len(data), bool)
    before[1:], after[:-1] = letter[:-1], letter[1:]
    inner = pack.ends[(pack.ends > 0) & (pack.ends < len(data))]
    before[inner], after[inner - 1] = False, False
    starts, lasts = numpy.flatnonzero(letter & ~before), numpy.flatnonzero(letter & ~after)
    counts = numpy.diff(numpy.searchsorted(starts, pack.ends))
    if not len(starts):
        return numpy.empty(0, numpy.uint64), counts
    lengths = lasts - starts + 1
    powers = numpy.ones(int(lengths.max()), numpy.uint64)
    numpy.multiply.accumulate(numpy.full(len(powers) - 1, BYTE, numpy.uint64), out=powers[1:])
    letters = numpy.flatnonzero(letter)
    behind = numpy.repeat(lasts, lengths) - letters
    values = (data[letters].astype(numpy.uint64) + numpy.uint64(1)) * powers[behind]
    return mix(numpy.add.reduceat(values, numpy.cumsum(lengths) - lengths)), counts


def _characters(pack: Pack) -> "tuple[NDArray[uint64], NDArray[int64]]":
    import numpy

    points = numpy.frombuffer(pack.blob.decode("utf-8").encode("utf-32-le"), numpy.uint32)
    lead = (numpy.frombuffer(pack.blob, numpy.uint8) & 0xC0) != 0x80
    counted = numpy.concatenate([[0], numpy.cumsum(lead)])
    return points.astype(numpy.uint64) + numpy.uint64(1), numpy.diff(counted[pack.ends])


def _minima(pack: Pack, texts: "NDArray[int64]", kind: int) -> "NDArray[uint32]":
    """Give the least value of each permutation over each text's shingles, (texts, permutations)."""
    import numpy

    hashes, starts = shingle_hashes(pack, kind)
    x = (hashes >> numpy.uint64(32)).astype(numpy.uint32)
    some = numpy.flatnonzero(numpy.diff(starts))
    minima = numpy.full((len(starts) - 1, PERMUTATIONS), 2**32 - 1, numpy.uint32)
    if len(some):
        for k, (a, b) in enumerate(zip(*permutations(), strict=True)):
            minima[some, k] = numpy.minimum.reduceat(x * a + b, starts[some])
    return minima[texts]


def _keys(minima: "NDArray[uint32]", kind: int, number: int, rows: int) -> "NDArray[uint32]":
    import numpy

    bands = minima[:, : number * rows].reshape(len(minima), number, rows).astype(numpy.uint64)
    powers = numpy.array([pow(BAND, k, 2**64) for k in range(rows)], numpy.uint64)
    salts = numpy.array([SALT[kind] * (band + 1) % 2**64 for band in range(number)], numpy.uint64)
    return (mix((bands * powers).sum(axis=2) + salts) >> numpy.uint64(32)).astype(numpy.uint32)


def _sketches(minima: "NDArray[uint32]") -> "NDArray[uint64]":
    import numpy

    bits = ((minima * numpy.uint32(BIT)) >> numpy.uint32(31)).astype(numpy.uint8)
    return numpy.packbits(bits, axis=1, bitorder="little").view("<u8").astype(numpy.uint64)
