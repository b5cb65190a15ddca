"""A snapshot made from another by leaving out rows of its train split. Everything else stays, byte for byte.

What is left out goes to `rejected.jsonl` with rule and reason and otherwise as it was, its split and group included: kept +
rejected = read still holds, and a later snapshot that is prepared onto this one finds the sides of those rows too.

    digest = write_successor(store, parent, {"6f1c0e…": "ifd 0.42, rank 812 of 4,000"}, Change("select", 1, {"by": "ifd"}))
"""

import heapq
import json
import shutil
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budwood.data.rows import REJECTED, SPLITS
from budwood.errors import DataError
from budwood.identity import Digest, digest_file, short
from budwood.prepare.card import write_card
from budwood.prepare.croissant import croissant
from budwood.prepare.lengths import summarise_lengths

if TYPE_CHECKING:
    from budwood.store import Store
    from budwood.store.draft import Draft

HELD_OUT = ("validation", "test")
OURS = ("train.jsonl", f"{REJECTED}.jsonl", "card.md", "croissant.json")
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
        tally = _Tally()
        left = draft.folder / "left.jsonl"
        _part_train(store.file(parent, "train.jsonl"), leave, change.rule, draft.folder / "train.jsonl", left, tally)
        _check(tally, leave, parent)
        for entry in manifest.files:
            if entry.path not in OURS:
                _copy(store.file(parent, entry.path), draft.folder / entry.path)
        for name in HELD_OUT:
            tally.note_groups(name, draft.folder / f"{name}.jsonl")
        order = {source["sha256"]: place for place, source in reversed(list(enumerate(manifest.body["sources"])))}
        _merge(store.file(parent, f"{REJECTED}.jsonl"), left, draft.folder / f"{REJECTED}.jsonl", order)
        left.unlink()
        body = _body(manifest.body, tally, change)
        _describe(draft, body)
        parents = [parent, *(one for one in change.parents if one != parent)]
        return draft.commit(parents=parents, body=body, attestation=dict(change.attestation))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


class _Tally:
    """Figures of a successor."""

    def __init__(self) -> None:
        self.kept = 0
        self.left: set[str] = set()
        self.lengths = array("q")
        self.untouched: Counter[tuple[str, str]] = Counter()
        self.groups: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}

    def leave(self, row: Mapping[str, Any]) -> None:
        self.left.add(row["row_id"])
        self.untouched.update({(touch["rule"], touch["kind"]) for touch in row.get("touched", ())})

    def keep(self, row: Mapping[str, Any]) -> None:
        self.kept += 1
        self.groups["train"][row["group"]] += 1
        if row.get("tokens") is not None:
            self.lengths.append(row["tokens"])

    def note_groups(self, split: str, path: Path) -> None:
        with path.open("rb") as lines:
            self.groups[split].update(json.loads(line)["group"] for line in lines)


def _part_train(path: Path, leave: Mapping[str, str], rule: str, kept: Path, left: Path, tally: _Tally) -> None:
    """Share out the train rows over two files."""
    with path.open("rb") as lines, kept.open("wb") as staying, left.open("wb") as leaving:
        for line in lines:
            row = json.loads(line)
            reason = leave.get(row["row_id"])
            if reason is None:
                tally.keep(row)
                staying.write(line)
            else:
                tally.leave(row)
                leaving.write(_with_reason(line, rule, reason))


def _with_reason(line: bytes, rule: str, reason: str) -> bytes:
    """The row as it stands, with why it left behind the rest."""
    why = json.dumps({"rule": rule, "reason": reason}, ensure_ascii=False, separators=(",", ":")).encode()
    return line.rstrip().removesuffix(b"}") + b"," + why[1:] + b"\n"


def _check(tally: _Tally, leave: Mapping[str, str], parent: Digest) -> None:
    strange = leave.keys() - tally.left
    if strange:
        raise DataError(
            f"{len(strange):,} of {len(leave):,} rows that are to leave are not in train, e.g. {min(strange)}.",
            where=f"snapshot {short(parent)}…",
            mend="Score this very snapshot again.",
        )
    if not tally.kept:
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


def _body(parent: Mapping[str, Any], tally: _Tally, change: Change) -> dict[str, Any]:
    """The parent's figures with those that changed; changed and flagged count kept rows, dropped counts rejected ones."""
    gone = len(tally.left)
    counts = dict(parent["counts"])
    counts |= {"kept": counts["kept"] - gone, "rejected": counts["rejected"] + gone, "train": tally.kept}
    if counts["train"] + gone != parent["counts"]["train"]:
        raise AssertionError(f"{counts['train']} kept + {gone} left is not {parent['counts']['train']} in train before")
    rules = [_less(rule, tally.untouched) for rule in parent["rules"]]
    rejected_by = Counter(parent["rejected_by"]) + Counter({change.rule: gone})
    entry = {"name": change.rule, "version": change.version, "options": dict(change.options)}
    sizes: Counter[str] = sum(tally.groups.values(), Counter())
    return {
        **parent,
        "counts": counts,
        "rejected_by": dict(sorted(rejected_by.items())),
        "rules": [*rules, entry | {"changed": 0, "dropped": gone, "flagged": 0}],
        "groups": dict(parent["groups"])
        | {"count": len(sizes), "largest": max(sizes.values())}
        | {split: len(groups) for split, groups in tally.groups.items()},
        "lengths": dict(parent["lengths"]) | ({"train": summarise_lengths(tally.lengths)} if tally.lengths else {}),
        **change.body,
    }


def _less(rule: Mapping[str, Any], untouched: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    kinds = ("changed", "flagged")
    return dict(rule) | {kind: rule[kind] - untouched.get((rule["name"], kind), 0) for kind in kinds}


def _describe(draft: "Draft", body: Mapping[str, Any]) -> None:
    """Write the card and the Croissant file."""
    (draft.folder / "card.md").write_text(write_card(body), encoding="utf-8", newline="\n")
    files = {path.name: digest_file(path) for path in sorted(draft.folder.glob("*.jsonl"))}
    text = json.dumps(croissant(body, files), indent=2, ensure_ascii=False) + "\n"
    (draft.folder / "croissant.json").write_text(text, encoding="utf-8", newline="\n")
