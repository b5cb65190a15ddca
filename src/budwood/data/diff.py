"""What has changed from one snapshot to another: rows, by source and rule.

    diff = compare(store, a, b, rows=5)
    diff.kinds["moved"].count
    diff.kinds["moved"].rows[0]        # {"row_id": …, "file": …, "line": …, "before": {…}, "after": {…}}

A row may be of several kinds: one that moved may also have changed. Memory is some 120 bytes a row of both together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from budwood.data.columns import OUT, PLACES, Columns, Names, read_columns
from budwood.data.declared import Declared, compare_declared
from budwood.data.match import Pairs, match
from budwood.events import Reporter, silent
from budwood.identity import Digest
from budwood.store import Store

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

KINDS = {
    "added": "new, kept",
    "added_rejected": "new, rejected",
    "removed": "gone, was kept",
    "removed_rejected": "gone, was rejected",
    "changed": "kept, other text",
    "changed_beside": "kept, other columns",
    "moved": "kept, other split",
    "newly_rejected": "was kept, now rejected",
    "restored": "was rejected, now kept",
    "other_rule": "rejected by another rule",
    "unchanged": "unchanged",
}
"""Kind → what it means. Columns are slices, and which answers are learnt."""


@dataclass(frozen=True)
class Kind:
    """The rows of one kind.

    Args:
        count: how many.
        by_source: file → how many; the later snapshot's file where it has the row.
        by_rule: rule that rejects (or rejected, where it no longer does) → how many; "leak → conflict" where it has changed.
        by_place: split or rejected → how many; "train → test" where it has changed.
        rows: the first of them.
    """

    count: int
    by_source: Mapping[str, int]
    by_rule: Mapping[str, int]
    by_place: Mapping[str, int]
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Diff:
    before: Digest
    after: Digest
    kinds: Mapping[str, Kind]
    declared: Declared

    @property
    def same_rows(self) -> bool:
        return all(kind.count == 0 for name, kind in self.kinds.items() if name != "unchanged")

    def as_dict(self) -> dict[str, Any]:
        return {
            "before": self.before,
            "after": self.after,
            "rows": {
                name: {
                    "count": kind.count,
                    "by_source": dict(kind.by_source),
                    "by_rule": dict(kind.by_rule),
                    "by_place": dict(kind.by_place),
                    "rows": [dict(row) for row in kind.rows],
                }
                for name, kind in self.kinds.items()
            },
            **self.declared.as_dict(),
        }


def compare(store: Store, before: Digest, after: Digest, *, rows: int = 0, report: Reporter = silent) -> Diff:
    """Compare two snapshots.

    Args:
        store: where both lie.
        before: the earlier one, or whichever the changes are counted from.
        after: the other.
        rows: how many rows of each kind to name.
        report: told of progress.

    Raises:
        StoreError: one is no snapshot, its bytes are gone, or a row cannot be read.
    """
    names = Names()
    old, new = (read_columns(store, digest, names, report=report) for digest in (before, after))
    sides = _Sides(old, new, match(old, new), names)
    kinds = {kind: sides.kind(chosen, rows if kind != "unchanged" else 0) for kind, chosen in sides.chosen().items()}
    return Diff(before, after, kinds, compare_declared(store.manifest(before).body, store.manifest(after).body))


@dataclass(frozen=True)
class _Chosen:
    """Rows of one kind: positions in the earlier snapshot, in the later one, or in both."""

    before: "NDArray[numpy.int64] | None"
    after: "NDArray[numpy.int64] | None"

    def __len__(self) -> int:
        return len(self.before if self.after is None else self.after)  # type: ignore[arg-type]  # one of both is there


@dataclass(frozen=True)
class _Sides:
    """Both snapshots, and which row is which."""

    before: Columns
    after: Columns
    pairs: Pairs
    names: Names

    def chosen(self) -> dict[str, _Chosen]:
        old, new, pairs = self.before, self.after, self.pairs
        was, now = old.place[pairs.before], new.place[pairs.after]
        kept = (was != OUT) & (now != OUT)
        text = kept & (old.said[pairs.before] != new.said[pairs.after])
        beside = kept & ~text & (old.beside[pairs.before] != new.beside[pairs.after])
        rule = old.rule[pairs.before] != new.rule[pairs.after]
        out_before, out_after = old.place[pairs.removed] == OUT, new.place[pairs.added] == OUT
        masks = {
            "changed": text,
            "changed_beside": beside,
            "moved": kept & (was != now),
            "newly_rejected": (was != OUT) & (now == OUT),
            "restored": (was == OUT) & (now != OUT),
            "other_rule": (was == OUT) & (now == OUT) & rule,
            "unchanged": (was == now) & ~rule & ~text & ~beside,
        }
        return {
            "added": _Chosen(None, pairs.added[~out_after]),
            "added_rejected": _Chosen(None, pairs.added[out_after]),
            "removed": _Chosen(pairs.removed[~out_before], None),
            "removed_rejected": _Chosen(pairs.removed[out_before], None),
        } | {name: _Chosen(pairs.before[mask], pairs.after[mask]) for name, mask in masks.items()}

    def kind(self, chosen: _Chosen, rows: int) -> Kind:
        side, at = (self.before, chosen.before) if chosen.after is None else (self.after, chosen.after)
        rules = list(self.names.rules)
        by_rule = _counted(self._change(chosen, "rule", len(rules)), rules)
        by_place = _counted(self._change(chosen, "place", len(PLACES)), PLACES)
        sources = list(self.names.sources)
        by_source = _counted(side.source[at].astype("int64") * (len(sources) + 1), sources)
        return Kind(
            len(chosen), by_source, by_rule, by_place, [self._row(chosen, place) for place in range(min(rows, len(chosen)))]
        )

    def _change(self, chosen: _Chosen, column: str, names: int) -> "NDArray[numpy.int64]":
        """Number what a column holds before and after: before · names + after; that of a row in one snapshot is its own."""
        sides = ((self.before, chosen.before), (self.after, chosen.after))
        held: list[NDArray[numpy.int64]] = [getattr(side, column)[at].astype("int64") for side, at in sides if at is not None]
        return held[0] * names + held[-1]

    def _row(self, chosen: _Chosen, place: int) -> dict[str, Any]:
        sides = (("before", self.before, chosen.before), ("after", self.after, chosen.after))
        return {name: self._pointer(side, int(at[place])) for name, side, at in sides if at is not None}

    def _pointer(self, side: Columns, at: int) -> dict[str, Any]:
        rule = list(self.names.rules)[side.rule[at]]
        where = {
            "row_id": f"{int(side.row_id[at]):016x}",
            "place": PLACES[side.place[at]],
            "file": list(self.names.sources)[side.source[at]],
            "line": int(side.line[at]),
        }
        return where | ({"rule": rule} if rule else {})


def _counted(codes: "NDArray[numpy.int64]", names: Sequence[str]) -> dict[str, int]:
    """Count rows by what a code stands for, most first; two different numbers in it read as a change."""
    import numpy

    counts: dict[str, int] = {}
    for code, count in zip(*numpy.unique(codes, return_counts=True), strict=True):
        before, after = divmod(int(code), len(names))
        words = dict.fromkeys(name for name in (names[before], names[after]) if name)
        if words:
            counts[" → ".join(words)] = int(count)
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
