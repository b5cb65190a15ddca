"""A snapshot made from another by leaving out rows of its train split. Everything else stays, byte for byte.

What is left out goes to `rejected.jsonl` with rule and reason and otherwise as it was, its split and group included: kept +
rejected = read still holds, and a later snapshot that is prepared onto this one finds the sides of those rows too.

    digest = write_successor(store, parent, {"6f1c0e…": "ifd 0.42, rank 812 of 4,000"}, Change("select", 1, {"by": "ifd"}))
"""

import heapq
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budwood.data.figures import Figures
from budwood.data.rows import REJECTED, SPLITS
from budwood.errors import DataError
from budwood.identity import Digest, short
from budwood.prepare.describe import CARD, CROISSANT, describe

if TYPE_CHECKING:
    from budwood.store import Store

OURS = ("train.jsonl", f"{REJECTED}.jsonl", CARD, CROISSANT)
"""Files of a snapshot that a successor has its own of."""


@dataclass(frozen=True)
class Change:
    """What makes the successor.

    Args:
        rule: that the rows are rejected by.
        version: of it.
        options: that it ran with.
        body: what the successor's body says besides, by key.
        parents: what it was made from besides the parent.
        attestation: what lies beside it.
    """

    rule: str
    version: int
    options: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    parents: Sequence[Digest] = ()
    attestation: Mapping[str, Any] = field(default_factory=dict)


def write_successor(store: "Store", parent: Digest, leave: Mapping[str, str], change: Change) -> Digest:
    """Store the snapshot that is left when train rows leave; memory holds figures of rows, never their texts.

    Args:
        store: that holds the parent.
        parent: a snapshot.
        leave: row id → reason.
        change: what makes it.

    Raises:
        DataError: a row that is to leave is not in train, or none would stay.
        StoreError: not a snapshot, or the store refuses.
    """
    manifest = store.manifest(parent)
    if manifest.kind != "snapshot":
        raise DataError(f"{short(parent)}… is a {manifest.kind}, not a snapshot.", mend="Give the digest of a snapshot.")
    with store.draft("snapshot") as draft:
        figures = Figures(_with_rule(manifest.body, change))
        left = draft.folder / "left.jsonl"
        gone = _part_train(store.file(parent, "train.jsonl"), leave, change.rule, draft.folder / "train.jsonl", left)
        _check(gone, leave, draft.folder / "train.jsonl", parent)
        for entry in manifest.files:
            if entry.path not in OURS:
                _copy(store.file(parent, entry.path), draft.folder / entry.path)
        order = {source["sha256"]: place for place, source in reversed(list(enumerate(manifest.body["sources"])))}
        _merge(store.file(parent, f"{REJECTED}.jsonl"), left, draft.folder / f"{REJECTED}.jsonl", order)
        left.unlink()
        for split in (*SPLITS, REJECTED):
            _count(draft.folder / f"{split}.jsonl", split, figures)
        body = figures.body() | dict(change.body)
        describe(draft.folder, body)
        parents = [parent, *(one for one in change.parents if one != parent)]
        return draft.commit(parents=parents, body=body, attestation=dict(change.attestation))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _part_train(path: Path, leave: Mapping[str, str], rule: str, kept: Path, left: Path) -> set[str]:
    """Share out the train rows over two files; give the ids of those that left."""
    gone: set[str] = set()
    with path.open("rb") as lines, kept.open("wb") as staying, left.open("wb") as leaving:
        for line in lines:
            row_id = json.loads(line)["row_id"]
            reason = leave.get(row_id)
            if reason is None:
                staying.write(line)
            else:
                gone.add(row_id)
                leaving.write(_with_reason(line, rule, reason))
    return gone


def _count(path: Path, split: str, figures: Figures) -> None:
    with path.open("rb") as lines:
        for line in lines:
            figures.add(split, json.loads(line))


def _with_reason(line: bytes, rule: str, reason: str) -> bytes:
    """The row as it stands, with why it left behind the rest."""
    why = json.dumps({"rule": rule, "reason": reason}, ensure_ascii=False, separators=(",", ":")).encode()
    return line.rstrip().removesuffix(b"}") + b"," + why[1:] + b"\n"


def _check(gone: set[str], leave: Mapping[str, str], train: Path, parent: Digest) -> None:
    strange = leave.keys() - gone
    if strange:
        raise DataError(
            f"{len(strange):,} of {len(leave):,} rows that are to leave are not in train, e.g. {min(strange)}.",
            where=f"snapshot {short(parent)}…",
            mend="Score this very snapshot again.",
        )
    if not train.stat().st_size:
        raise DataError("No row would be left to train on.", where=f"snapshot {short(parent)}…", mend="Keep more rows.")


def _merge(rejected: Path, left: Path, out: Path, order: Mapping[str, int]) -> None:
    """Put the rows that left between those that were rejected before: by source and line, as they stand there."""

    def keyed(lines: Iterator[bytes]) -> Iterator[tuple[tuple[int, int], bytes]]:
        for line in lines:
            source = json.loads(line)["source"]
            yield (order.get(source["sha256"], len(order)), source["line"]), line

    with rejected.open("rb") as before, left.open("rb") as now, out.open("wb") as file:
        for _, line in heapq.merge(keyed(iter(before)), keyed(iter(now)), key=lambda one: one[0]):
            file.write(line)


def _with_rule(parent: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """The parent's body with the rule that rows leave by; its figures are still to be counted.

    A rule that rows left by before stands there once, as it was last: figures count a rule's rows by its name.
    """
    entry = {"name": change.rule, "version": change.version, "options": dict(change.options)}
    others = [rule for rule in parent["rules"] if rule["name"] != change.rule]
    return {**parent, "rules": [*others, entry | {"changed": 0, "dropped": 0, "flagged": 0}]}
