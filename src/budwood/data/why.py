"""A row's story: where it came from, what touched it, where it went and why, and what was trained on it.

    wanted = read_wanted("tickets.jsonl:812")
    for story in stories(store, digest, wanted, limit=1): print(story.row, story.placing)

What a snapshot holds is told and nothing else: the reasons name rows by their ids, so that the ones a row was compared with
are found and told too.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from budwood.data.placing import Placing, members, said, why_placed
from budwood.data.rows import KeptRow, RejectedRow, Touched, kept_rows, rejected_rows
from budwood.data.trained import Use, trained_on
from budwood.errors import DataError, StoreError
from budwood.identity import Digest, short
from budwood.store import Store

AnyRow = KeptRow | RejectedRow
NEIGHBOURS = 5
"""Rows that a story lists of a group, and of those that went for the row's sake."""
CONFLICT = "conflict"
"""The rule whose reasons need not name the rows that go together."""
_ID = re.compile(r"[0-9a-f]{1,64}")
_NAMED = re.compile(r"\brow ([0-9a-f]{16})\b")


@dataclass(frozen=True)
class Wanted:
    """Which rows are meant: those whose id begins so, or the one on a line of a file."""

    prefix: str = ""
    file: str = ""
    line: int = 0

    def worth(self, line: bytes) -> bool:
        return (self.prefix or str(self.line)).encode() in line

    def means(self, row: AnyRow) -> bool:
        if self.prefix:
            return row.row_id.startswith(self.prefix)
        if row.line != self.line:
            return False
        # As the recipe has it, or more or less of its path.
        return row.file == self.file or row.file.endswith(f"/{self.file}") or self.file.endswith(f"/{row.file}")

    def __str__(self) -> str:
        return f"with an id that begins with {self.prefix}" if self.prefix else f"from {self.file} line {self.line:,}"


@dataclass(frozen=True)
class Story:
    """All that is known of one row of a snapshot.

    Args:
        snapshot: which one.
        row: the row.
        source: what the snapshot says of its source.
        rules: name → version and options, of the rules that touched or rejected it.
        placing: why it lies in its split; None for a rejected row.
        grouped_by: the column by which rows are grouped besides.
        others: other rows of its group.
        neighbours: the first of them.
        compared: the rows that its own reasons name, and in a conflict those that are out with it, each with its snapshot.
        fell: rule → rows that were rejected for its sake.
        fallen: the first of them.
        uses: what was trained on the snapshot.
    """

    snapshot: Digest
    row: AnyRow
    source: Mapping[str, Any]
    rules: Mapping[str, Mapping[str, Any]]
    placing: Placing | None
    grouped_by: str
    others: int
    neighbours: tuple[KeptRow, ...]
    compared: tuple[tuple[Digest, AnyRow], ...]
    fell: Mapping[str, int]
    fallen: tuple[RejectedRow, ...]
    uses: tuple[Use, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "snapshot": self.snapshot,
            "place": place(self.row),
            "row": dict(self.row.value),
            "source": dict(self.source),
            "rules": {name: dict(rule) for name, rule in self.rules.items()},
            "placing": self.placing.as_dict() if self.placing else None,
            "group": {"others": self.others, "rows": [pointer(one) for one in self.neighbours]},
            "compared": [{"snapshot": digest} | pointer(one) for digest, one in self.compared],
            "rejected_for_it": {"by": dict(self.fell), "rows": [pointer(one) for one in self.fallen]},
            "uses": [use.as_dict() for use in self.uses],
        }


def read_wanted(text: str) -> Wanted:
    """Read what a person typed: an id or its beginning, or FILE:LINE.

    Raises:
        DataError: it is neither.
    """
    file, colon, line = text.strip().rpartition(":")
    if colon and file and line.replace(",", "").isdecimal():
        return Wanted(file=file, line=int(line.replace(",", "")))
    digits = text.strip().removesuffix("…")
    if _ID.fullmatch(digits):
        return Wanted(prefix=digits)
    raise DataError(
        f"{text!r} names no row.", mend="Give the first digits of its id, or FILE:LINE as in the recipe, e.g. rows.jsonl:812."
    )


def matches(store: Store, snapshot: Digest, wanted: Wanted) -> Iterator[AnyRow]:
    """Find rows, kept ones first.

    Raises:
        StoreError: not a snapshot, or a row that cannot be read.
    """
    kept = kept_rows(store, snapshot, worth=wanted.worth)
    rejected = rejected_rows(store, snapshot, worth=wanted.worth)
    rows: Iterator[AnyRow] = chain(kept, rejected)
    return (row for row in rows if wanted.means(row))


def tell(store: Store, snapshot: Digest, row: AnyRow) -> Story:
    """Tell the story of a row that `matches` gave.

    Cost: a few passes over the snapshot's files, which parse only lines that name the row or its group.
    """
    body = store.manifest(snapshot).body
    kept = isinstance(row, KeptRow)
    group = _Group(store, snapshot, row) if isinstance(row, KeptRow) else None
    fell, fallen = _fallen(store, snapshot, row) if kept else (Counter[str](), ())
    names = {touch.rule for touch in touches(row)} | ({row.rule} if isinstance(row, RejectedRow) else set())
    return Story(
        snapshot=snapshot,
        row=row,
        source=next((one for one in body["sources"] if one["sha256"] == row.sha256), {}),
        rules={rule["name"]: rule for rule in body["rules"] if rule["name"] in names},
        placing=why_placed(store, snapshot, row) if isinstance(row, KeptRow) else None,
        grouped_by=str(body["groups"]["by"]),
        others=group.others if group else 0,
        neighbours=group.first if group else (),
        compared=tuple(_compared(store, snapshot, body["onto"], row)),
        fell=dict(fell.most_common()),
        fallen=tuple(fallen),
        uses=tuple(trained_on(store, snapshot, row=row.row_id if kept else "")),
    )


def only(store: Store, snapshot: Digest, wanted: Wanted, *, limit: int) -> list[AnyRow]:
    """Read the first rows that are meant.

    Raises:
        StoreError: there is none.
    """
    found = list(islice(matches(store, snapshot, wanted), limit))
    if not found:
        raise StoreError(
            f"Snapshot {short(snapshot)}… has no row {wanted}, neither kept nor rejected.",
            mend="`budwood data list` lists other snapshots; files are named as in the recipe.",
        )
    return found


def touches(row: AnyRow) -> tuple[Touched, ...]:
    """What rules did to a row; a rejected one tells it only where a selection left it out, which had been kept before."""
    if isinstance(row, KeptRow):
        return row.touched
    return tuple(Touched(one["rule"], one["kind"], one["reason"]) for one in row.value.get("touched", ()))


def place(row: AnyRow) -> str:
    return row.split if isinstance(row, KeptRow) else "rejected"


def pointer(row: AnyRow) -> dict[str, Any]:
    """Say which row, without its text."""
    where = {"row_id": row.row_id, "place": place(row), "file": row.file, "line": row.line}
    return where if isinstance(row, KeptRow) else where | {"rule": row.rule, "reason": row.reason}


class _Group:
    """The other rows of a row's group: how many, and the first of them."""

    def __init__(self, store: Store, snapshot: Digest, row: KeptRow) -> None:
        others = (one for one in members(store, snapshot, row) if one.row_id != row.row_id)
        self.first = tuple(islice(others, NEIGHBOURS))
        self.others = len(self.first) + sum(1 for _ in others)


def _fallen(store: Store, snapshot: Digest, row: AnyRow) -> tuple[Counter[str], list[RejectedRow]]:
    """Count the rows that were rejected for a row's sake, whose reasons name it, by rule; and read the first of them."""
    name = f"row {row.row_id}"
    sign = name.encode()
    counts: Counter[str] = Counter()
    first: list[RejectedRow] = []
    for one in rejected_rows(store, snapshot, worth=lambda line: sign in line):
        if name in one.reason:
            counts[one.rule] += 1
            first += [one] if len(first) < NEIGHBOURS else []
    return counts, first


def _compared(store: Store, snapshot: Digest, onto: str, row: AnyRow) -> Iterator[tuple[Digest, AnyRow]]:
    """Read the rows that the reasons of a row name, each with its snapshot: the earlier one where this one lacks it."""
    reasons = [*([row.reason] if isinstance(row, RejectedRow) else []), *(touch.reason for touch in touches(row))]
    for named in dict.fromkeys(name for reason in reasons for name in _NAMED.findall(reason)):
        wanted = Wanted(prefix=named)
        here = next(matches(store, snapshot, wanted), None)
        if here is not None:
            yield snapshot, here
        elif onto and store.exists(onto):
            yield from ((Digest(onto), one) for one in matches(store, Digest(onto), wanted))
    if isinstance(row, RejectedRow) and row.rule == CONFLICT:
        yield from ((snapshot, one) for one in islice(_rivals(store, snapshot, row), NEIGHBOURS))


def _rivals(store: Store, snapshot: Digest, row: RejectedRow) -> Iterator[RejectedRow]:
    """Read the rejected rows that answer a conflicting row's prompt: where none has a majority, no reason names them."""
    prompt, sign = said(row.value).prompt, CONFLICT.encode()
    for one in rejected_rows(store, snapshot, worth=lambda line: sign in line):
        if one.rule == CONFLICT and one.row_id != row.row_id and said(one.value).prompt == prompt:
            yield one
