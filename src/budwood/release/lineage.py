"""From any object back to the training rows: a walk along the parents, and the rows at its end.

tree = lineage(store, release_digest)
    for line in tree.lines(): print(line)
for row in training_rows(store, tree.data.digest, limit=3): print(row.source, row.line)
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from budwood.errors import StoreError
from budwood.identity import Digest, short
from budwood.store import Kind, Manifest, Store

SPLITS = ("train", "validation", "test")
DRAWN_DEPTH = 12
"""Levels of the tree that are drawn: each release stands on the one before, and a long line of them says little."""


@dataclass(frozen=True)
class Node:
    """One object of the walk.

    `depth` is the shortest way from where it began, `forgotten` why its bytes are gone, `successor` what took its place then.
    """

    digest: Digest
    kind: Kind
    title: str
    parents: tuple[Digest, ...]
    depth: int
    forgotten: str | None
    successor: Digest | None = None


@dataclass(frozen=True)
class Lineage:
    """Everything that an object was made from, itself first, nearest first."""

    nodes: tuple[Node, ...]

    @property
    def data(self) -> Node | None:
        """The snapshot that it is, or that it was made from itself, also when that was removed; None: no data went into it.

        What an earlier release was made from is another release's data, however near it lies.
        """
        own = self.nodes[0]
        by_digest = {node.digest: node for node in self.nodes}
        near = [own, *(by_digest[parent] for parent in own.parents)]
        runs = [node for node in near if node.kind == "run" and node is not own and own.kind == "release"]
        # A release of an imported adapter names the rows that it was judged on: it has not learnt from them.
        learnt = {parent for run in runs for parent in run.parents}
        return next((node for node in near if node.kind == "snapshot" and (not runs or node.digest in learnt)), None)

    def lines(self) -> list[str]:
        """Draw the walk as an indented tree; what was shown before is named again, but not unfolded again."""
        by_digest = {node.digest: node for node in self.nodes}
        lines: list[str] = []
        shown: set[Digest] = set()
        # The next to draw is at the end; depth first, so that each stands under what was made from it.
        waiting = [(node, 0) for node in self.nodes[:1]]
        while waiting:
            node, indent = waiting.pop()
            again = node.digest in shown
            instead = f"; in its place: {short(node.successor)}" if node.successor else ""
            gone = f" (removed: {node.forgotten}{instead})" if node.forgotten else ""
            more = " (see above)" if again and node.parents else ""
            lines.append(f"{'  ' * indent}{node.kind} {short(node.digest)} {node.title}{gone}{more}".rstrip())
            shown.add(node.digest)
            if not again and indent < DRAWN_DEPTH:
                waiting += [(by_digest[parent], indent + 1) for parent in reversed(node.parents)]
        left = len(self.nodes) - len(shown)
        return [*lines, f"… and {left:,} more objects, further back"] if left else lines

    def as_dict(self) -> dict[str, Any]:
        keys = ("digest", "kind", "title", "depth", "forgotten", "successor")
        return {"nodes": [{**{key: getattr(node, key) for key in keys}, "parents": list(node.parents)} for node in self.nodes]}


@dataclass(frozen=True)
class RowOrigin:
    """One row of a snapshot and where it came from."""

    row_id: str
    split: str
    source: str
    source_sha256: str
    line: int
    touched: tuple[str, ...]
    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "row_id": self.row_id,
            "split": self.split,
            "source": {"file": self.source, "sha256": self.source_sha256, "line": self.line},
            "touched": list(self.touched),
            "messages": [dict(message) for message in self.messages],
            **({"tools": list(self.tools)} if self.tools else {}),
        }


def lineage(store: Store, digest: str) -> Lineage:
    """Walk from an object to everything that it was made from.

    Raises:
        StoreError: an object on the way is missing without a tombstone.
    """
    nodes: dict[Digest, Node] = {}
    level = [Digest(digest)]
    depth = 0
    while level:
        for current in level:
            nodes[current] = _node(store, current, depth)
        above = [parent for current in level for parent in nodes[current].parents]
        level = [parent for parent in dict.fromkeys(above) if parent not in nodes]
        depth += 1
    return Lineage(tuple(nodes.values()))


def find_object(store: Store, ref: str) -> Digest:
    """Find an object by release reference (name, name@alias, name@number) or by the first digits of its digest.

    Raises:
        StoreError: neither fits; the release's error is the one that is told, unless `ref` reads as digits.
    """
    digits = ref.strip().removesuffix("…")
    known = {row.name for row in store.releases()}
    if "@" not in ref and ref not in known and len(digits) >= 6 and set(digits) <= set("0123456789abcdef"):
        return store.resolve(digits)
    return store.find_release(ref).digest


def training_rows(
    store: Store, snapshot: str, *, limit: int = 3, row_id: str | None = None, splits: tuple[str, ...] = ("train",)
) -> list[RowOrigin]:
    """Read rows of a snapshot with their source file and line.

    Args:
        store: the store.
        snapshot: a snapshot object.
        limit: at most so many rows; 0: none, and only `row_id` is looked for.
        row_id: only rows whose id begins so; all splits are then searched.
        splits: files to read, in order.

    Raises:
        StoreError: not a snapshot, a row that cannot be read, or no row with that id.
    """
    manifest = store.manifest(snapshot)
    if manifest.kind != "snapshot":
        raise StoreError(f"{short(snapshot)}… is a {manifest.kind}, not a snapshot.", mend="Give the digest of a snapshot.")
    if row_id is None:
        return list(islice(_rows(store, snapshot, splits), limit))
    found = (row for row in _rows(store, snapshot, SPLITS) if row.row_id.startswith(row_id))
    wanted = list(islice(found, max(limit, 1)))
    if not wanted:
        raise StoreError(
            f"Snapshot {short(snapshot)}… has no row {row_id!r}.",
            mend="`budwood data why` finds rejected rows too, with the reason.",
        )
    return wanted[:limit]


def _rows(store: Store, snapshot: str, splits: tuple[str, ...]) -> Iterator[RowOrigin]:
    for split in splits:
        with store.file(snapshot, f"{split}.jsonl").open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    yield _row(json.loads(line.decode("utf-8", "surrogatepass")), split)
                except (ValueError, KeyError, TypeError) as error:
                    raise StoreError(
                        f"Row {number} of {split}.jsonl cannot be read: {error!r}.",
                        where=f"snapshot {short(snapshot)}…",
                        mend="Run `budwood verify`.",
                    ) from None


def _row(value: dict[str, Any], split: str) -> RowOrigin:
    source = value["source"]
    return RowOrigin(
        row_id=str(value["row_id"]),
        split=split,
        source=str(source["file"]),
        source_sha256=str(source["sha256"]),
        line=int(source["line"]),
        touched=tuple(str(item["rule"]) for item in value.get("touched", ())),
        messages=tuple({**message, "role": message["role"], "content": message["content"]} for message in value["messages"]),
        tools=tuple(value.get("tools", ())),
    )


def _node(store: Store, digest: Digest, depth: int) -> Node:
    tombstone = store.tombstone_of(digest)
    if tombstone is not None:
        # What a deleted release was made from may have been collected since.
        known = tuple(parent for parent in tombstone.parents if store.exists(parent) or store.tombstone_of(parent) is not None)
        return Node(digest, tombstone.kind, "", known, depth, tombstone.reason, tombstone.successor)
    manifest = store.manifest(digest)
    return Node(digest, manifest.kind, _title(manifest), manifest.parents, depth, None)


def _title(manifest: Manifest) -> str:
    """A few words that tell this object from its siblings."""
    body = manifest.body
    if manifest.kind == "snapshot":
        counts = body.get("counts", {})
        return f"{body.get('name', '')}: {counts.get('kept', 0):,} rows of {counts.get('read', 0):,}"
    if manifest.kind == "run" and body.get("method") == "compose":
        return f"composed ({body['settings']['method']}) of {len(body['settings']['weights'])} adapters"
    if manifest.kind == "run" and body.get("method") == "import":
        return "imported from PEFT files, not trained here"
    if manifest.kind == "run":
        return f"{body.get('method', '')}, {body.get('steps', 0):,} steps"
    keys = {"base": "id", "release": "name", "adapter": "rank", "model": "id", "report": "suite"}
    value = body.get(keys[manifest.kind], "")
    text = short(value) if manifest.kind == "report" and isinstance(value, str) else str(value)
    return f"rank {text}" if manifest.kind == "adapter" else text
