"""The rows of a snapshot as they are stored, one after the other: memory does not grow with the snapshot.

for row in kept_rows(store, digest): print(row.row_id, row.split)
for row in rejected_rows(store, digest): print(row.row_id, row.rule, row.reason)
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from budwood.errors import StoreError
from budwood.identity import Digest, short
from budwood.store import Store

SPLITS = ("train", "validation", "test")
REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Touched:
    """What a rule did to a row; `kind` is "changed" or "flagged"."""

    rule: str
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class KeptRow:
    """A row of a split: where it stood (`line` of `file`, whose bytes were `sha256`), and what is known of it."""

    row_id: str
    split: str
    group: str
    file: str
    sha256: Digest
    line: int
    touched: tuple[Touched, ...]
    value: Mapping[str, Any]

    @property
    def messages(self) -> list[dict[str, Any]]:
        return list(self.value["messages"])

    @property
    def tokens(self) -> int | None:
        """Its length after the template; None where it was not measured."""
        return self.value.get("tokens")


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that is out, by which rule and why; `value` holds its redacted messages, or its raw text."""

    row_id: str
    rule: str
    reason: str
    file: str
    sha256: Digest
    line: int
    value: Mapping[str, Any]


LineFilter = Callable[[bytes], bool]
"""A row's line as stored → whether it is worth parsing: looking for a few rows among millions must not cost parsing all."""


def kept_rows(
    store: Store, snapshot: Digest, splits: tuple[str, ...] = SPLITS, *, worth: LineFilter | None = None
) -> Iterator[KeptRow]:
    """Read the rows of some splits, in the order of the files.

    Args:
        store: the store.
        snapshot: a snapshot object.
        splits: files to read, in order.
        worth: which lines to parse; None: all of them.

    Raises:
        StoreError: not a snapshot, its bytes are gone, or a row that cannot be read.
    """
    for split in splits:
        for value in _lines(store, snapshot, split, worth):
            source = value["source"]
            touched = tuple(Touched(one["rule"], one["kind"], one["reason"]) for one in value.get("touched", ()))
            yield KeptRow(
                row_id=value["row_id"],
                split=split,
                group=value["group"],
                file=source["file"],
                sha256=source["sha256"],
                line=source["line"],
                touched=touched,
                value=value,
            )


def rejected_rows(store: Store, snapshot: Digest, *, worth: LineFilter | None = None) -> Iterator[RejectedRow]:
    """Read the rows that a snapshot's preparation rejected, by source and line; `worth` as in `kept_rows`.

    Raises:
        StoreError: as `kept_rows`.
    """
    for value in _lines(store, snapshot, REJECTED, worth):
        source = value["source"]
        yield RejectedRow(
            value["row_id"], value["rule"], value["reason"], source["file"], source["sha256"], source["line"], value
        )


def _lines(store: Store, snapshot: Digest, name: str, worth: LineFilter | None) -> Iterator[dict[str, Any]]:
    manifest = store.manifest(snapshot)
    if manifest.kind != "snapshot":
        raise StoreError(f"{short(snapshot)}… is a {manifest.kind}, not a snapshot.", mend="Give the digest of a snapshot.")
    with store.file(snapshot, f"{name}.jsonl").open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if worth is not None and not worth(line):
                continue
            try:
                value = json.loads(line)
                value["row_id"], value["source"]["file"], value["source"]["sha256"], value["source"]["line"]
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(
                    f"Row {number:,} of {name}.jsonl cannot be read: {error!r}.",
                    where=f"snapshot {short(snapshot)}…",
                    mend="Run `budwood verify`.",
                ) from None
            yield value
