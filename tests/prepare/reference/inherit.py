"""What an earlier snapshot fixed: no row ever moves between splits.

Rows of the earlier snapshot are recognised in the new data by what they say, so a file that grew, moved or was rewritten
changes nothing. Those that the new data no longer hold still stand for their group: a new row near an old test row is test.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.prepare.reference.dedupe import Says, says

from budwood.errors import DataError
from budwood.identity import Digest, short
from budwood.prepare.row import SPLITS, Message, Origin, Row, Scalar, Split

if TYPE_CHECKING:
    from budwood.store import Store


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A row of the earlier snapshot."""

    row_id: str
    said: Says
    split: Split
    slices: Mapping[str, Scalar]


@dataclass(frozen=True)
class Inheritance:
    """The earlier snapshot's rows; empty when there is none."""

    snapshot: str = ""
    ancestors: tuple[Ancestor, ...] = ()
    splits: Mapping[bytes, Split] = field(default_factory=dict)

    def split_of(self, said: Says) -> Split | None:
        return self.splits.get(said.key)


def load_inheritance(store: "Store", onto: Digest | None) -> Inheritance:
    """Read the earlier snapshot.

    Raises:
        DataError: the object is no snapshot.
        StoreError: there is no such object.
    """
    if onto is None:
        return Inheritance()
    kind = store.manifest(onto).kind
    if kind != "snapshot":
        raise DataError(f"{short(onto)} is a {kind}, not a snapshot.", mend="Name the snapshot to build on.")
    ancestors = tuple(ancestor for name in (*SPLITS, "rejected") for ancestor in _read(store, onto, name))
    return Inheritance(onto, ancestors, {ancestor.said.key: ancestor.split for ancestor in ancestors})


def _read(store: "Store", onto: Digest, name: str) -> Iterator[Ancestor]:
    with store.file(onto, f"{name}.jsonl").open(encoding="utf-8") as file:
        for line in file:
            value = json.loads(line)
            # A rejected row has a split only where a selection left it out later: it keeps its side.
            split = value.get("split")
            if split is None:
                continue
            messages = tuple(map(Message.from_json, value["messages"]))
            origin, tools = Origin(**value["source"]), tuple(value.get("tools", ()))
            row = Row(value["row_id"], origin, messages, value["slices"], value["weight"], "auto", tools=tools)
            yield Ancestor(row.row_id, says(row), split, row.slices)
