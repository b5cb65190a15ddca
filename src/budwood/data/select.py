"""The best rows of a snapshot's train split by a score, as a snapshot of their own.

    wanted = parse_top("20%")
    selected = select(store, snapshot, score(store, snapshot, by="ifd", judge=judge), wanted)
    selected.digest, selected.kept, selected.of

Validation and test stay as they are, so that what is trained on the selection can be held against what is trained on all
rows, or on as many at random (`by="random"`).
"""

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from budwood.data.scores.scored import Scored, rounded
from budwood.data.successor import Change, write_successor
from budwood.errors import DataError
from budwood.identity import Digest, short

if TYPE_CHECKING:
    from budwood.store import Store

RULE, VERSION = "select", 1
_TOP = re.compile(r"\s*(?P<share>\d+(\.\d+)?)\s*%\s*|\s*(?P<count>[\d,_]+)\s*")
MEND = "Write a share such as 20%, or a number of rows such as 500."


@dataclass(frozen=True)
class Top:
    """How many rows are wanted: a share of all, or a number."""

    text: str
    share: Decimal | None = None
    count: int = 0

    def of(self, rows: int) -> int:
        """Give the number out of `rows`: of a share the nearest, a half up, and never none.

        Raises:
            DataError: there are not so many.
        """
        if self.share is not None:
            return max(1, int(self.share * rows / 100 + Decimal("0.5")))
        if self.count > rows:
            raise DataError(f"{self.count:,} rows are wanted, and there are {rows:,}.", where="--top", mend=MEND)
        return self.count


def parse_top(text: str) -> Top:
    """Read `20%` or `500`.

    Raises:
        DataError: it is neither, nothing, or more than 100 %.
    """
    found = _TOP.fullmatch(text)
    if found is None:
        raise DataError(f"{text!r} is no number of rows.", where="--top", mend=MEND)
    if found["share"]:
        share = Decimal(found["share"])
        if not 0 < share <= 100:
            raise DataError(f"{text.strip()} is no share of the rows.", where="--top", mend=MEND)
        return Top(f"{found['share']}%", share)
    count = int(found["count"].replace(",", "").replace("_", "") or 0)
    if not count:
        raise DataError(f"{text!r} selects nothing.", where="--top", mend=MEND)
    return Top(f"{count:,}", None, count)


@dataclass(frozen=True)
class Selected:
    """A selection. `body` is what its snapshot says of it."""

    digest: Digest
    body: dict[str, Any]

    @property
    def kept(self) -> int:
        return int(self.body["kept"])

    @property
    def of(self) -> int:
        return int(self.body["of"])

    def as_dict(self) -> dict[str, Any]:
        return {"snapshot": self.digest, **self.body}


def select(
    store: "Store",
    snapshot: Digest,
    scored: Scored,
    top: Top,
    *,
    without_mismatched: bool = False,
) -> Selected:
    """Store a snapshot whose train split is the rows to take first. Equal scores are told apart by row id.

    Args:
        store: that holds the snapshot.
        snapshot: whose train rows were scored.
        scored: their scores.
        top: how many; a share is of all train rows, scored or not.
        without_mismatched: leave out rows whose IFD is 1 or more, whatever their rank.

    Raises:
        DataError: fewer rows could be scored, or are left, than are wanted; or every row would stay.
    """
    rows = len(scored.places)
    number = top.of(rows)
    order = scored.order.tolist()
    barred = {row for row in order if scored.values[row] >= 1} if without_mismatched and scored.by == "ifd" else set()
    left = [row for row in order if row not in barred]
    if number > len(left):
        raise DataError(
            f"{number:,} of {rows:,} rows are wanted, but only {len(left):,} can be chosen: {len(scored.unscored):,} have no "
            f"score, {len(barred):,} are mismatched.",
            where=f"train of snapshot {short(snapshot)}…",
            mend="Ask for fewer with --top.",
        )
    chosen = left[:number]
    if number == rows:
        raise DataError(f"All {rows:,} train rows would be chosen.", where="--top", mend="Train on the snapshot itself.")
    body = _body(snapshot, scored, top, chosen) | {"without_mismatched": without_mismatched}
    reasons = _reasons(scored, set(chosen), barred)
    options = {"by": scored.by, "top": top.text, **scored.settings}
    change = Change(RULE, VERSION, options, {"selection": body})
    return Selected(write_successor(store, snapshot, reasons, change), body)


def _body(snapshot: Digest, scored: Scored, top: Top, chosen: list[int]) -> dict[str, Any]:
    import numpy

    return {
        "parent": snapshot,
        "by": scored.by,
        "top": top.text,
        "kept": len(chosen),
        "of": len(scored.places),
        "scores": scored.quantiles(),
        "scores_kept": replace(scored, order=numpy.array(chosen)).quantiles(),
        "mismatched": scored.mismatched,
        "unscored": scored.why_unscored,
        "settings": dict(scored.settings),
    }


def _reasons(scored: Scored, chosen: set[int], barred: set[int]) -> dict[str, str]:
    """Why each row that is not chosen leaves."""
    total = len(scored.order)
    reasons = {scored.places[row].row_id: f"not scored by {scored.by}: {why}" for row, why in scored.unscored.items()}
    for rank, row in enumerate(scored.order.tolist(), start=1):
        if row not in chosen:
            mismatched = ", mismatched" if row in barred else ""
            reasons[scored.places[row].row_id] = _reason(scored, row, rank, total) + mismatched
    return reasons


def _reason(scored: Scored, row: int, rank: int, total: int) -> str:
    shown = "" if scored.by == "random" else f" {rounded(scored.values[row]):g}"
    return f"{scored.by}{shown}, rank {rank:,} of {total:,}"
