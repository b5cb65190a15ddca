"""The snapshot's row files: finished lines copied from the spools, with what was decided put into them.

Where each line of train, validation and test goes is known before it is copied, so the processes write side by side; rejected
lines come back, and are appended in order.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from budwood.prepare.encode import SPLIT, Halves, reject_encoded, touches_size, with_touches
from budwood.prepare.row import SPLITS, Touch
from budwood.prepare.spool import Place, Shelf, write_at
from budwood.text.pii import may_hold, redact

if TYPE_CHECKING:
    from numpy import bool_, int8, int64, uint32, uint64
    from numpy.typing import NDArray

GROUP_DIGITS = 16
BETWEEN = tuple(SPLIT + split.encode() for split in SPLITS)


@dataclass(frozen=True)
class Fates:
    """What becomes of one batch's records: R records, N of them rows that were still in.

    Args:
        lines: where their lines lie.
        lengths: of a row's halves, or of a rejected record's line and 0, (R, 2).
        live: whether a record was still in, (R,).
        split: place in `SPLITS`, or −1 for a row that is rejected, (N,).
        group: (N,).
        reasons: rule and reason of each rejected row, in order.
        flags: row → touches that it gains.
        starts: where the batch's lines begin in the file of each split.
    """

    lines: Place
    lengths: "NDArray[uint32]"
    live: "NDArray[bool_]"
    split: "NDArray[int8]"
    group: "NDArray[uint64]"
    reasons: Sequence[tuple[str, str]]
    flags: Mapping[int, Sequence[Touch]]
    starts: tuple[int, int, int]


def sizes_of(
    lengths: "NDArray[int64]", split: "NDArray[int8]", flags: Mapping[int, Sequence[Touch]], touched: "NDArray[uint64]"
) -> tuple[int, int, int]:
    """Bytes that a batch's rows take in the file of each split; `lengths` is that of both halves, (N,)."""
    totals = []
    for place in range(len(SPLITS)):
        mine = split == place
        totals.append(int(lengths[mine].sum()) + int(mine.sum()) * (GROUP_DIGITS + len(BETWEEN[place])))
    for row, touches in flags.items():
        totals[split[row]] += touches_size(touches, after_others=bool(touched[row]))
    return totals[0], totals[1], totals[2]


class Finisher:
    """Copies lines from the spools in `scratch` into the files of `folder`, which are there."""

    def __init__(self, scratch: Path, folder: Path) -> None:
        self._shelf = Shelf(scratch)
        self._handles = [os.open(folder / f"{split}.jsonl", os.O_WRONLY | os.O_CLOEXEC) for split in SPLITS]

    def copy(self, fates: Fates) -> bytes:
        """Write one batch's kept rows, and give the lines of those rejected."""
        data = self._shelf.read(*fates.lines)
        kept: list[list[bytes]] = [[], [], []]
        rejected: list[bytes] = []
        splits, groups, reasons = iter(fates.split.tolist()), iter(fates.group.tolist()), iter(fates.reasons)
        at = row = 0
        for (head, tail), live in zip(fates.lengths.tolist(), fates.live.tolist(), strict=True):
            middle, end = at + head, at + head + tail
            if not live:
                rejected.append(data[at:middle])
            else:
                split, group = next(splits), next(groups)
                if split < 0:
                    rejected.append(
                        reject_encoded(Halves(data[at:middle], data[middle:end]), *next(reasons), _redacted, may_hold)
                    )
                else:
                    rest = data[middle:end]
                    if row in fates.flags:
                        rest = with_touches(rest, fates.flags[row])
                    kept[split] += (data[at:middle], b"%016x" % group, BETWEEN[split], rest)
                row += 1
            at = end
        for handle, parts, start in zip(self._handles, kept, fates.starts, strict=True):
            write_at(handle, b"".join(parts), start)
        return b"".join(rejected)

    def close(self) -> None:
        self._shelf.close()
        for handle in self._handles:
            os.close(handle)


def _redacted(text: str) -> str:
    return redact(text).text
