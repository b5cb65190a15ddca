"""Group → split, by a keyed hash; and the rows that must go because they would leak.

No random generator: a group's place depends on the key and on one of its own texts, so rows added elsewhere move nothing.
What is fixed beforehand wins over the hash: a published test file is test, and rows of an earlier snapshot stay where they
were. Where a group then holds both sides, the test side stays and the rest is rejected as a leak.

A group is known by the text whose keyed hash (its *name*) is smallest. One that gains a row keeps its name with probability
n / (n + 1), and loses no stability otherwise; what must not move at all is inherited from the earlier snapshot.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import bool_, int8, int64, uint64
    from numpy.typing import NDArray

FREE = -1
"""No split yet; others are places in `row.SPLITS`, of which a later one is stronger."""
TRAIN, VALIDATION, TEST = range(3)


@dataclass(frozen=True, slots=True)
class Shares:
    """How much of the groups each held-out split gets, and the key of the hash."""

    validation: float
    test: float
    key: int


def key_of(seed: int) -> bytes:
    """The bytes by which the hash is keyed."""
    return str(seed).encode()[:64]


def name_of(text: bytes, key: int) -> bytes:
    """The name, in 16 bytes, that a text gives to its group."""
    return _hash(text, key, b"name")


def spot_of(name: bytes, key: int) -> bytes:
    """Where in 0..2⁶⁴ a group of this name lies, as eight bytes, the highest first."""
    return _hash(name, key, b"split")[:8]


@dataclass(frozen=True)
class Members:
    """Members of groups, sorted by group, then by place; all (M,).

    Args:
        starts: where each group begins, (G,).
        fixed: the split that a member must have, or `FREE`.
        published: whether it is of a published test file.
        never_test: whether its source says that its rows are never test.
        present: False for a row that only the earlier snapshot holds.
    """

    starts: "NDArray[int64]"
    fixed: "NDArray[int8]"
    published: "NDArray[bool_]"
    never_test: "NDArray[bool_]"
    present: "NDArray[bool_]"


@dataclass(frozen=True)
class Placed:
    """Where groups lie.

    Args:
        split: of each group, (G,).
        strongest: the member that decided it, (G,); of a group in which nothing is fixed, its first.
        torn: members that must go because their group has more than one side, (M,).
        barred: members that must go because their group is test, and their source never is, (M,).
    """

    split: "NDArray[int8]"
    strongest: "NDArray[int64]"
    torn: "NDArray[bool_]"
    barred: "NDArray[bool_]"


def place_groups(members: Members, spots: "NDArray[uint64]", shares: Shares) -> Placed:
    """Choose the split of every group; `spots` is where it lies by its name, (G,)."""
    import numpy

    sizes = numpy.diff(members.starts, append=len(members.fixed))
    group = numpy.repeat(numpy.arange(len(sizes)), sizes)
    highest = numpy.maximum.reduceat(members.fixed, members.starts) if len(sizes) else members.fixed
    never_test = numpy.logical_or.reduceat(members.never_test, members.starts) if len(sizes) else members.never_test
    split = numpy.where(highest == FREE, hashed_splits(spots, shares, ~never_test), highest).astype(numpy.int8)
    at_top = numpy.flatnonzero(members.fixed == highest[group])
    # Written backwards, so that of several the first one stays.
    strongest = numpy.zeros(len(sizes), numpy.int64)
    strongest[group[at_top[::-1]]] = at_top[::-1]
    weaker = (members.fixed != FREE) & (members.fixed != split[group])
    is_torn = numpy.bincount(group, weaker, len(sizes)) > 0
    is_torn |= (highest != FREE) & members.published[strongest]
    # Also a row that is new: it ties both sides together, so on neither side is it safe.
    goes = members.present & (members.fixed != split[group]) & (highest != FREE)[group]
    torn = goes & is_torn[group]
    barred = goes & ~is_torn[group] & (split[group] == TEST) & members.never_test
    return Placed(split, strongest, torn, barred)


def hashed_splits(spots: "NDArray[uint64]", shares: Shares, testable: "NDArray[bool_]") -> "NDArray[int8]":
    """Place groups by hash alone; `testable` is False where a source says that its rows are never test."""
    import numpy

    place = spots.astype(numpy.float64) / 2.0**64
    held_out = numpy.where(place < shares.test + shares.validation, VALIDATION, TRAIN)
    return numpy.where(place < shares.test, numpy.where(testable, TEST, TRAIN), held_out).astype(numpy.int8)


def _hash(text: bytes, key: int, purpose: bytes) -> bytes:
    return blake2b(text, digest_size=16, key=key_of(key), person=purpose).digest()
