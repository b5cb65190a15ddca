"""A snapshot → what a page says of it: its rows are read once, the rejected ones twice, and few of them are held."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, TypeVar

from budwood.data.report.balance import Balance, Columns
from budwood.data.report.clusters import CONFLICT, MOST_MEMBERS, Cluster, Conflicts, Links, prompt_of, size_bands
from budwood.data.report.sample import Sample
from budwood.data.rows import KeptRow, RejectedRow, kept_rows, rejected_rows
from budwood.events import Event, Reporter, silent
from budwood.identity import Digest
from budwood.json_text import decode
from budwood.store import Store

EXAMPLES = 3
"""Rows shown of a rule."""
CANDIDATES = 8
"""Rows of a rule that are made again from their source; those whose personal data could show are passed over."""
PROMPTS = 2_000
"""Rows of a split that are compared with those of another."""
STEP = 20_000
Row = TypeVar("Row", KeptRow, RejectedRow)


@dataclass(frozen=True)
class Prompt:
    """What was asked, and by which group of rows."""

    text: str
    group: str


@dataclass
class Gathered:
    """What was found in the rows.

    Args:
        lengths: split → length → rows; tokens where `measured`, else characters.
        answers: how often which answer, while there are few.
        fields: the same for each plain field of answers that are JSON objects.
        slices: the same for the other columns.
        dropped: rule → some of its rows.
        changed: rule → some of the rows that it changed.
        flagged: rule → some of the rows that it flagged.
        prompts: split → some of its prompts.
        clusters: of duplicates, the largest.
        cluster_sizes: band of sizes → clusters.
        texts: row id → row, for the members of clusters and the winners of conflicts.
        group_sizes: band of sizes → groups of kept rows.
    """

    lengths: dict[str, Counter[int]] = field(default_factory=dict)
    measured: bool = True
    answers: Balance = field(default_factory=Balance)
    fields: Columns = field(default_factory=Columns)
    slices: Columns = field(default_factory=Columns)
    dropped: dict[str, Sample[RejectedRow]] = field(default_factory=dict)
    changed: dict[str, Sample[KeptRow]] = field(default_factory=dict)
    flagged: dict[str, Sample[KeptRow]] = field(default_factory=dict)
    prompts: dict[str, Sample[Prompt]] = field(default_factory=dict)
    conflicts: Conflicts = field(default_factory=Conflicts)
    clusters: list[Cluster] = field(default_factory=list)
    cluster_sizes: Mapping[str, int] = field(default_factory=dict)
    texts: dict[str, KeptRow | RejectedRow] = field(default_factory=dict)
    group_sizes: Mapping[str, int] = field(default_factory=dict)


def gather(store: Store, snapshot: Digest, report: Reporter = silent) -> Gathered:
    """Read a snapshot.

    Memory: sixteen bytes a row, and the samples.

    Raises:
        StoreError: not a snapshot, or a row that cannot be read.
    """
    found = Gathered()
    counts = store.manifest(snapshot).body["counts"]
    links = Links()
    for row in _told(rejected_rows(store, snapshot), "Reading what was dropped", counts["rejected"], report):
        _take_rejected(found, links, row)
    found.clusters, found.cluster_sizes = links.clusters()
    wanted = {member for cluster in found.clusters for member in cluster.members}
    wanted |= {held.winner for held in found.conflicts.shown() if held.winner}
    groups = array("Q")
    for kept in _told(kept_rows(store, snapshot), "Reading what was kept", counts["kept"], report):
        _take_kept(found, kept)
        groups.append(int.from_bytes(blake2b(kept.group.encode(), digest_size=8).digest(), "little"))
        if kept.row_id in wanted:
            found.texts[kept.row_id] = kept
    found.group_sizes = _group_sizes(groups)
    _find_members(found, store, snapshot)
    return found


def answer_of(messages: Iterable[Mapping[str, Any]]) -> str:
    last = list(messages)[-1]
    return str(last.get("content", "")) if last.get("role") == "assistant" else ""


def _take_rejected(found: Gathered, links: Links, row: RejectedRow) -> None:
    found.dropped.setdefault(row.rule, Sample(EXAMPLES)).offer(row.row_id, lambda: row)
    links.add(row)
    if row.rule == CONFLICT and row.value.get("messages"):
        found.conflicts.add(row.row_id, row.value["messages"], row.reason, "dropped")


def _take_kept(found: Gathered, row: KeptRow) -> None:
    messages = row.value["messages"]
    if row.tokens is None and found.measured:
        found.measured = False
        found.lengths.clear()
    length = row.tokens if found.measured else sum(len(message["content"]) for message in messages)
    found.lengths.setdefault(row.split, Counter())[length or 0] += 1
    found.prompts.setdefault(row.split, Sample(PROMPTS)).offer(row.row_id, lambda: Prompt(prompt_of(messages), row.group))
    answer = answer_of(messages)
    found.answers.add(row.split, answer)
    if answer.startswith("{"):
        _take_fields(found.fields, row.split, answer)
    for name, value in row.value.get("slices", {}).items():
        found.slices.add(row.split, name, value)
    for touch in row.touched:
        if touch.kind == "changed":
            found.changed.setdefault(touch.rule, Sample(CANDIDATES)).offer(row.row_id, lambda: row)
        else:
            found.flagged.setdefault(touch.rule, Sample(EXAMPLES)).offer(row.row_id, lambda: row)
        if touch.rule == CONFLICT:
            found.conflicts.add(row.row_id, messages, touch.reason, "kept: a published test row")


def _take_fields(fields: Columns, split: str, answer: str) -> None:
    try:
        values = decode(answer)
    except ValueError:
        return  # Begins like an object and is none: it has no fields.
    for name, value in values.items():
        if value is None or isinstance(value, str | int | float | bool):
            fields.add(split, name, value)


def _find_members(found: Gathered, store: Store, snapshot: Digest) -> None:
    """Read the rejected rows again, for the members of the clusters that are shown."""
    wanted = {
        member
        for cluster in found.clusters
        for member in [one for one in cluster.members if one not in found.texts][:MOST_MEMBERS]
    }
    if wanted:
        found.texts |= {row.row_id: row for row in rejected_rows(store, snapshot) if row.row_id in wanted}


def _group_sizes(groups: "array[int]") -> Mapping[str, int]:
    import numpy as np

    if not groups:
        return {}
    _, sizes = np.unique(np.array(groups, np.uint64), return_counts=True)
    values, times = np.unique(sizes, return_counts=True)
    bands: Counter[str] = Counter()
    for size, many in zip(values.tolist(), times.tolist(), strict=True):
        (band,) = size_bands([size])
        bands[band] += many
    return bands


def _told(rows: Iterable[Row], message: str, total: int, report: Reporter) -> Iterator[Row]:
    for done, row in enumerate(rows, start=1):
        yield row
        if done % STEP == 0 or done == total:
            report(Event("report", message, done=done, total=total, unit="rows"))
