"""Rows that were dropped because another says the same, as clusters; prompts with more than one answer."""

import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from budwood.data.rows import RejectedRow
from budwood.text.normalise import normalise

DUPLICATES = ("exact_duplicate", "near_duplicate", "semantic_duplicate")
CONFLICT = "conflict"
MOST_CLUSTERS = 12
MOST_MEMBERS = 6
MOST_CONFLICTS = 12
_NAMED = re.compile(r"\brow ([0-9a-f]{16})\b")
"""How `budwood.prepare` names another row in a reason."""


def named_row(reason: str) -> str | None:
    """Find the id of the row that a reason speaks of."""
    found = _NAMED.search(reason)
    return found[1] if found else None


@dataclass(frozen=True)
class Cluster:
    """Rows that repeat one another: how many, and the ids of some, sorted."""

    size: int
    members: Sequence[str]


@dataclass
class Links:
    """Which dropped row repeats which: sixteen bytes a row."""

    ends: "array[int]" = field(default_factory=lambda: array("Q"))

    def add(self, row: RejectedRow) -> None:
        other = named_row(row.reason) if row.rule in DUPLICATES else None
        if other is not None:
            self.ends.extend((int(row.row_id[:16], 16), int(other, 16)))

    def clusters(self) -> tuple[list[Cluster], Mapping[str, int]]:
        """Give the largest clusters, and how many there are of which size."""
        import numpy as np
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        if not self.ends:
            return [], {}
        ids, places = np.unique(np.array(self.ends, np.uint64), return_inverse=True)
        pairs = places.reshape(-1, 2)
        graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(ids), len(ids)))
        count, of = connected_components(graph, directed=False)
        sizes = np.bincount(of, minlength=count)
        order = np.argsort(-sizes, kind="stable")[:MOST_CLUSTERS]
        largest = [Cluster(int(sizes[one]), [f"{value:016x}" for value in ids[of == one].tolist()]) for one in order]
        return largest, size_bands(sizes.tolist())


def size_bands(sizes: Sequence[int]) -> dict[str, int]:
    """Count sizes by band, in order; empty bands are left out."""
    bands = (("1", 1, 1), ("2", 2, 2), ("3 to 5", 3, 5), ("6 to 10", 6, 10), ("11 to 100", 11, 100), ("over 100", 101, 1 << 62))
    counted = {name: sum(low <= size <= high for size in sizes) for name, low, high in bands}
    return {name: count for name, count in counted.items() if count}


@dataclass
class Conflict:
    """One prompt and its rows: id, answer, and what became of it."""

    prompt: str
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    count: int = 0
    winner: str | None = None


class Conflicts:
    """Some of the prompts that were answered differently; all are counted."""

    def __init__(self) -> None:
        self.prompts: set[int] = set()
        self._held: dict[str, Conflict] = {}

    def add(self, row_id: str, messages: Sequence[Mapping[str, Any]], reason: str, fate: str) -> None:
        prompt, answer = prompt_of(messages), str(messages[-1].get("content", "")) if messages else ""
        key = blake2b(normalise(prompt).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        self.prompts.add(int(key, 16))
        # A key once put out never comes back, since the largest of those held only falls: what is held is complete.
        if key not in self._held and len(self._held) >= MOST_CONFLICTS:
            last = max(self._held)
            if key > last:
                return
            del self._held[last]
        held = self._held.setdefault(key, Conflict(prompt))
        held.count += 1
        held.winner = named_row(reason) or held.winner
        if len(held.rows) < MOST_MEMBERS:
            held.rows.append((row_id, answer, fate))

    def shown(self) -> list[Conflict]:
        return [self._held[key] for key in sorted(self._held)]


def prompt_of(messages: Sequence[Mapping[str, Any]]) -> str:
    """Everything before the answer, without the system message."""
    last = len(messages) - 1 if messages and messages[-1].get("role") == "assistant" else len(messages)
    return "\n".join(str(one.get("content", "")) for one in messages[:last] if one.get("role") != "system")
