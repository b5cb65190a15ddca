"""What a snapshot's body says of its rows, counted again from the rows as they are stored.

Whatever makes a snapshot from another feeds it every row that the new one holds. Memory holds eight bytes a row for its
group and eight for its length, whatever the snapshot's size.

    figures = Figures(parent_body)
    figures.add("train", row)
    body = figures.body()
"""

from array import array
from collections import Counter
from collections.abc import Mapping
from typing import Any

from budwood.data.older import in_present_form
from budwood.data.rows import REJECTED, SPLITS
from budwood.errors import DataError
from budwood.prepare.histograms import Histograms, measure
from budwood.prepare.lengths import summarise_lengths
from budwood.prepare.row import SPLITS as ROW_SPLITS
from budwood.prepare.row import Message


class Figures:
    """Counters of a snapshot that is being made from another.

    Args:
        before: the other one's body; an older Budwood may have written it.
    """

    def __init__(self, before: Mapping[str, Any]) -> None:
        self._before = in_present_form(before)
        self._counts: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._touched: Counter[tuple[str, str]] = Counter()
        self._groups = {split: array("Q") for split in SPLITS}
        self._tokens = {split: array("q") for split in SPLITS}
        self._histograms = Histograms(self._before["settings"]["labels"])

    def add(self, split: str, row: Mapping[str, Any]) -> None:
        """Count a row of a split, or of the rejected."""
        self._counts[split] += 1
        if split == REJECTED:
            self._dropped[row["rule"]] += 1
            return
        self._touched.update({(touch["rule"], touch["kind"]) for touch in row.get("touched", ())})
        self._groups[split].append(int(row["group"], 16))
        tokens = row.get("tokens")
        if tokens is not None:
            self._tokens[split].append(tokens)
        side = next(one for one in ROW_SPLITS if one == split)
        self._histograms.add(side, measure([Message.from_json(message) for message in row["messages"]]), tokens)

    def body(self, *, forgotten: int = 0) -> dict[str, Any]:
        """Give the body that had these rows been all.

        Args:
            forgotten: rows that the other one had and that are gone for good.

        Raises:
            DataError: rows and figures did not fit together before.
        """
        counts = dict(self._before["counts"])
        gone = int(counts.get("forgotten", 0)) + forgotten
        kept, rejected = sum(self._counts[split] for split in SPLITS), self._counts[REJECTED]
        if counts["read"] != kept + rejected + gone:
            raise DataError(
                f"{kept:,} kept, {rejected:,} rejected and {gone:,} removed rows are not the {counts['read']:,} that were "
                "read.",
                mend="Nothing was changed. Run `budwood verify`.",
            )
        counts |= {"kept": kept, REJECTED: rejected} | {split: self._counts[split] for split in SPLITS}
        return {
            **self._before,
            "counts": counts | ({"forgotten": gone} if gone else {}),
            "rejected_by": dict(sorted(self._dropped.items())),
            "rules": [self._rule(rule) for rule in self._before["rules"]],
            "groups": {**self._before["groups"], **self._group_sizes()},
            "lengths": {split: lengths for split in SPLITS if (lengths := self._lengths(split))},
            "histograms": self._histograms.as_body(),
        }

    def _lengths(self, split: str) -> Mapping[str, int] | None:
        """Summarise a split's lengths; where an older Budwood stored none with the rows, what it said of as many rows."""
        if self._tokens[split]:
            return summarise_lengths(self._tokens[split])
        before = self._before["lengths"].get(split)
        return before if before and before["rows"] == self._counts[split] else None

    def _rule(self, rule: Mapping[str, Any]) -> dict[str, Any]:
        name = rule["name"]
        changed, flagged = self._touched[name, "changed"], self._touched[name, "flagged"]
        return {**rule, "changed": changed, "dropped": self._dropped[name], "flagged": flagged}

    def _group_sizes(self) -> dict[str, int]:
        import numpy

        sizes = {
            split: numpy.unique(numpy.frombuffer(groups, dtype=numpy.uint64), return_counts=True)[1]
            for split, groups in self._groups.items()
            if groups
        }
        found = {split: len(sizes[split]) if split in sizes else 0 for split in SPLITS}
        largest = max((int(counts.max()) for counts in sizes.values()), default=0)
        return {"count": sum(found.values()), "largest": largest} | found
