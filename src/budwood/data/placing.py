"""Why a kept row lies in its split: published, inherited from an earlier snapshot, or hashed.

    placing = why_placed(store, digest, row)
    print(placing.sentence())

A snapshot holds the outcome alone, so the reason is found again: by the source's declaration, and by looking for the row and
its group in the snapshot that was built on. Where neither settles it, it is said so.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from budwood.data.rows import KeptRow, kept_rows
from budwood.identity import Digest, short
from budwood.prepare.row import Message, Origin, Row
from budwood.prepare.said import Says, says
from budwood.store import Store

Why = Literal["published", "inherited", "hashed", "new", "unknown"]


@dataclass(frozen=True)
class Placing:
    """Why a row lies where it lies.

    Args:
        why: published: its source is a test file. inherited: `row` of the earlier `snapshot` says what it, or a row of its
            group, says. hashed: by the keyed hash of its group. new: as hashed, unless a look-alike that only the earlier
            snapshot holds has settled it. unknown: the earlier snapshot was removed.
        split: where it lies.
        seed: key of the hash.
        snapshot: the earlier snapshot, if there is one.
        row: id of the row there.
        itself: whether that one says what the row itself says, or only a row of its group.
        earlier: why that one lay where it lay.
        never_test: whether its source says that its rows are never test.
    """

    why: Why
    split: str
    seed: int
    snapshot: str = ""
    row: str = ""
    itself: bool = False
    earlier: "Placing | None" = None
    never_test: bool = False

    def sentence(self) -> str:
        by_hash = f"by the keyed hash of its group (split_seed {self.seed})"
        if self.never_test:
            by_hash += "; its source is never test"
        onto = short(self.snapshot)
        match self.why:
            case "published":
                return "its source is a published test file, which stays whole"
            case "hashed":
                return by_hash
            case "unknown":
                return f"by hash, or inherited from snapshot {onto}, whose rows were removed"
            case "new":
                return f"{by_hash}, unless a look-alike that only snapshot {onto} holds settled it"
            case "inherited":
                whom = "it was there" if self.itself else "a row of its group was there"
                before = f"; there: {self.earlier.sentence()}" if self.earlier else ""
                return f"inherited from snapshot {onto}: {whom} as row {self.row}{before}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "why": self.why,
            "split": self.split,
            "snapshot": self.snapshot,
            "row": self.row,
            "itself": self.itself,
            "earlier": self.earlier.as_dict() if self.earlier else None,
        }


def why_placed(store: Store, snapshot: Digest, row: KeptRow) -> Placing:
    """Find out why a row lies in its split.

    Cost: reads the snapshot's split once, and of the earlier one at worst every row; memory is 32 bytes a row of the group.
    """
    body = store.manifest(snapshot).body
    seed = int(body["settings"]["split_seed"])
    declared = {source["sha256"]: source["split"] for source in body["sources"]}[row.sha256]
    if declared == "test":
        return Placing("published", row.split, seed)
    onto = Digest(body["onto"])
    if not onto:
        return Placing("hashed", row.split, seed, never_test=declared == "train")
    if store.tombstone_of(onto) is not None:
        return Placing("unknown", row.split, seed, onto)
    own = _key(row)
    keys = {own} | {_key(member) for member in members(store, snapshot, row)}
    found = _in_earlier(store, onto, row.group, own, keys)
    if found is None:
        return Placing("new", row.split, seed, onto, never_test=declared == "train")
    earlier = why_placed(store, onto, found)
    return Placing("inherited", row.split, seed, onto, found.row_id, _key(found) == own, earlier)


def members(store: Store, snapshot: Digest, row: KeptRow) -> Iterator[KeptRow]:
    """Read the kept rows of a row's group, itself among them: all lie in its split."""
    group = row.group.encode()
    rows = kept_rows(store, snapshot, (row.split,), worth=lambda line: group in line)
    return (one for one in rows if one.group == row.group)


def said(value: Mapping[str, Any]) -> Says:
    """What a stored row says, by which later snapshots recognise it; rejected ones are redacted."""
    messages = tuple(map(Message.from_json, value["messages"]))
    origin, tools = Origin(**value["source"]), tuple(value.get("tools", ()))
    return says(Row(value["row_id"], origin, messages, {}, 1.0, "auto", tools=tools))


def _key(row: KeptRow) -> bytes:
    """Prompt and answer of a row: what an earlier snapshot's rows are recognised by."""
    says = said(row.value)
    return says.prompt + says.answer


def _in_earlier(store: Store, onto: Digest, group: str, own: bytes, keys: set[bytes]) -> KeptRow | None:
    """Find the row, else one of its group, in the earlier snapshot; a group mostly keeps its name, so that is tried first."""
    name = group.encode()
    for worth in (lambda line: name in line, None):
        near: KeptRow | None = None
        for row in kept_rows(store, onto, worth=worth):
            key = _key(row)
            if key == own:
                return row
            if near is None and key in keys:
                near = row
        if near is not None:
            return near
    return None
