"""What an earlier snapshot fixed: no row ever moves between splits.

Rows of the earlier snapshot are recognised in the new data by what they say, so a file that grew, moved or was rewritten
changes nothing. Those that the new data no longer hold still stand for their group: a new row near an old test row is test.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from budwood.errors import DataError
from budwood.identity import Digest, short
from budwood.prepare.files import BLOCK_BYTES
from budwood.prepare.records import whole_lines
from budwood.prepare.row import SPLITS
from budwood.prepare.unpack import chunks

if TYPE_CHECKING:
    from budwood.store import Store


def check_onto(store: "Store", onto: Digest | None) -> None:
    """Check that there is something to inherit from.

    Raises:
        DataError: the object is no snapshot.
        StoreError: there is no such object.
    """
    if onto is None:
        return
    kind = store.manifest(onto).kind
    if kind != "snapshot":
        raise DataError(f"{short(onto)} is a {kind}, not a snapshot.", mend="Name the snapshot to build on.")


def earlier_rows(store: "Store", onto: Digest | None) -> Iterator[tuple[bytes]]:
    """The earlier snapshot's rows, some whole lines at a time; its rejected ones too, of which some have a split."""
    for name in (*SPLITS, "rejected") if onto is not None else ():
        assert onto is not None
        with store.file(onto, f"{name}.jsonl").open("rb") as file:
            for _, lines in whole_lines(chunks(file, BLOCK_BYTES), longest=None):
                assert isinstance(lines, bytes)
                yield (lines,)
