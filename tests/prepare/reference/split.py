"""Group → split, by a keyed hash; and the rows that must go because they would leak.

No random generator: a group's place depends on the key and on one of its own texts, so rows added elsewhere move nothing.
What is fixed beforehand wins over the hash: a published test file is test, and rows of an earlier snapshot stay where they
were. Where a group then holds both sides, the test side stays and the rest is rejected as a leak.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from budwood.prepare.row import Declared, Split

STRENGTH: dict[Split, int] = {"train": 0, "validation": 1, "test": 2}


@dataclass(frozen=True, slots=True)
class Member:
    """One row of a group, as far as its split is concerned.

    Args:
        row_id: names it in reasons.
        declared: what its source says.
        inherited: where an earlier snapshot put it.
        present: False for a row that only the earlier snapshot holds.
    """

    row_id: str
    declared: Declared
    inherited: Split | None
    present: bool = True

    @property
    def fixed(self) -> Split | None:
        return "test" if self.declared == "test" else self.inherited


@dataclass(frozen=True, slots=True)
class Shares:
    """How much of the groups each held-out split gets, and the key of the hash."""

    validation: float
    test: float
    key: int


def representative(texts: Iterable[bytes], key: int) -> bytes:
    """Choose the text by which a group is known: the one whose keyed hash is smallest.

    A group that gains a row keeps its representative with probability n / (n + 1), and loses no stability otherwise; what
    must not move at all is inherited from the earlier snapshot.
    """
    return min(_hash(text, key, b"name") for text in texts)


def hashed_split(group: bytes, shares: Shares, *, testable: bool) -> Split:
    """Place a group by hash alone; `testable` is False when a source says that its rows are never test."""
    place = int.from_bytes(_hash(group, shares.key, b"split")[:8], "big") / 2**64
    if place < shares.test:
        return "test" if testable else "train"
    return "validation" if place < shares.test + shares.validation else "train"


def place(group: bytes, members: Sequence[Member], shares: Shares) -> tuple[Split, dict[int, str]]:
    """Choose the split of a group.

    Returns:
        The split, and the positions of members that must go, each with the reason.
    """
    fixed = [member for member in members if member.fixed]
    if not fixed:
        testable = all(member.declared != "train" for member in members)
        return hashed_split(group, shares, testable=testable), {}
    strongest = max(fixed, key=lambda member: STRENGTH[member.fixed or "train"])
    split = strongest.fixed or "train"
    torn = any(member.fixed != split for member in fixed) or strongest.declared == "test"
    leaks: dict[int, str] = {}
    for i, member in enumerate(members):
        if member.fixed == split or not member.present:
            continue
        if torn:
            # Also a row that is new: it ties both sides together, so on neither side is it safe.
            leaks[i] = f"same group as {split} row {strongest.row_id}"
        elif split == "test" and member.declared == "train":
            leaks[i] = f"same group as test row {strongest.row_id} of the earlier snapshot, and its source is never test"
    return split, leaks


def _hash(text: bytes, key: int, purpose: bytes) -> bytes:
    return blake2b(text, digest_size=16, key=str(key).encode()[:64], person=purpose).digest()
