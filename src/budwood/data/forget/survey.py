"""Where rows lie that are looked for, and what was made from them. Nothing is touched.

    found = survey(store, wanted)
    found.rows, found.snapshots, found.reports, found.releases, found.trained

A row goes with every row that says the same: a copy that was rejected as a duplicate holds its text as well. Reports, golden
probes and pages follow from the rows; a text is looked for in them besides.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from budwood.data.forget.elsewhere import kept_probes, look_elsewhere
from budwood.data.forget.found import InRelease, InReport, InSnapshot, Place, Survey
from budwood.data.forget.lines import read_lines
from budwood.data.forget.probes import find_probes, probe_texts
from budwood.data.forget.trained import find_trained
from budwood.data.forget.wanted import Wanted, key_of, scalars, spoken
from budwood.data.rows import REJECTED, SPLITS
from budwood.events import Event, Reporter, silent
from budwood.identity import Digest
from budwood.store import ReleaseRow, Store

ROW_FILES = tuple(f"{name}.jsonl" for name in (*SPLITS, REJECTED))
STEP = 5_000
"""Rows between two signs of life."""
CASE_KEYS = ("prompt", "tools", "expected", "output", "slices", "fields")
"""What of a report's case holds texts."""


def survey(store: Store, wanted: Wanted, *, snapshots: Sequence[Digest] = (), report: Reporter = silent) -> Survey:
    """Look through the store.

    Args:
        store: the store.
        wanted: what is looked for.
        snapshots: look into these and what was made from them; empty: into all.
        report: told of progress.

    Raises:
        StoreError: something in the store cannot be read.
    """
    ticker = _Ticker(report)
    found = _find_rows(store, wanted, list(snapshots) or list(store.objects("snapshot")), ticker)
    ids = {row for one in found.snapshots for row in one.ids}
    reports = tuple(_find_cases(store, wanted, ids, set(snapshots)))
    releases, unread = _find_releases(store, wanted, found, set(snapshots))
    gone = {one.digest for one in found.snapshots} | {one.digest for one in reports}
    gone |= {one.digest for one in releases if not one.live}
    attachments, elsewhere = look_elsewhere(store, wanted, gone, report)
    told = {row for one in found.snapshots for row in one.ids}
    return Survey(
        snapshots=tuple(found.snapshots),
        reports=reports,
        releases=releases,
        trained=find_trained(store, {one.digest: one.counts for one in found.snapshots}),
        attachments=attachments,
        work=kept_probes(store) if any(set(one.rows) & {"train", "validation"} for one in found.snapshots) else (),
        elsewhere=elsewhere,
        unread=tuple(unread),
        missed=tuple(prefix for prefix in wanted.rows if not any(row.startswith(prefix) for row in told)),
    )


class _Ticker:
    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._done = 0

    def __call__(self) -> None:
        self._done += 1
        if self._done % STEP == 0:
            self._report(Event("forget", "Looking through rows", done=self._done, unit="rows"))


@dataclass
class _Rows:
    """Rows that go, and what was said in those that may have become probes: the turns before the answer."""

    snapshots: list[InSnapshot] = field(default_factory=list)
    prompts: dict[Digest, list[list[str]]] = field(default_factory=dict)


def _find_rows(store: Store, wanted: Wanted, snapshots: Sequence[Digest], tick: _Ticker) -> _Rows:
    keys = {key_of(row) for digest in snapshots for _, row in _rows(store, digest, tick) if wanted.in_row(row)}
    found = _Rows()
    for digest in snapshots:
        rows: dict[str, list[str]] = {}
        sources: dict[str, list[int]] = {}
        copies = 0
        prompts: list[list[str]] = []
        for split, row in _rows(store, digest, tick) if keys else ():
            asked = wanted.in_row(row)
            if not asked and key_of(row) not in keys:
                continue
            copies += not asked
            rows.setdefault(split, []).append(str(row["row_id"]))
            sources.setdefault(str(row["source"]["file"]), []).append(int(row["source"]["line"]))
            if split in ("train", "validation"):
                prompts.append(spoken(row)[:-1])
        ids = frozenset(row for listed in rows.values() for row in listed)
        other = _other_lines(store, digest, wanted, ids)
        if rows or other:
            name = str(store.manifest(digest).body.get("name", ""))
            listed_rows = {split: tuple(listed) for split, listed in rows.items()}
            places = {file: tuple(lines) for file, lines in sources.items()}
            found.snapshots.append(InSnapshot(digest, name, listed_rows, copies, other, places))
            found.prompts[digest] = prompts
    return found


def _rows(store: Store, digest: Digest, tick: _Ticker) -> Iterator[tuple[str, Mapping[str, Any]]]:
    names = {entry.path for entry in store.manifest(digest).files}
    for path in ROW_FILES:
        if path in names:
            for _, row in read_lines(store, digest, path):
                tick()
                yield path.removesuffix(".jsonl"), row


def _other_lines(store: Store, digest: Digest, wanted: Wanted, ids: frozenset[str]) -> dict[str, int]:
    """Count lines of a snapshot's other files, such as listed conflicts, that go with the rows."""
    counts: dict[str, int] = {}
    for entry in store.manifest(digest).files:
        if entry.path.endswith(".jsonl") and entry.path not in ROW_FILES:
            count = sum(goes(value, wanted, ids) for _, value in read_lines(store, digest, entry.path))
            if count:
                counts[entry.path] = count
    return counts


def goes(value: Any, wanted: Wanted, ids: frozenset[str]) -> bool:
    """Whether a line that is no row holds the text, or is about one of the rows."""
    return wanted.in_value(value) or any(word in ids for word in scalars(value))


def _find_cases(store: Store, wanted: Wanted, ids: set[str], within: set[Digest]) -> Iterator[InReport]:
    """Find reports with such cases. All reports of a suite lose the same cases, so that they can still be compared."""
    looked: list[InReport] = []
    by_suite: dict[str, set[str]] = {}
    for digest in store.objects("report"):
        manifest = store.manifest(digest)
        snapshot = manifest.parents[0]
        if within and snapshot not in within:
            continue
        suite = str(manifest.body["suite"])
        cases = {str(case["case_id"]): _holds(case, wanted, ids) for _, case in read_lines(store, digest, "cases.jsonl")}
        by_suite.setdefault(suite, set()).update(case for case, found in cases.items() if found)
        looked.append(InReport(digest, snapshot, suite, frozenset(cases), len(cases)))
    for one in looked:
        going = one.cases & by_suite[one.suite]
        if going:
            yield InReport(one.digest, one.snapshot, one.suite, going, one.total)


def _holds(case: Mapping[str, Any], wanted: Wanted, ids: set[str]) -> bool:
    return case["case_id"] in ids or wanted.in_value({key: case[key] for key in CASE_KEYS if key in case})


def _find_releases(
    store: Store, wanted: Wanted, found: _Rows, within: set[Digest]
) -> tuple[tuple[InRelease, ...], list[Place]]:
    rows: dict[Digest, list[ReleaseRow]] = {}
    for row in store.releases():
        rows.setdefault(row.digest, []).append(row)
    aliases = store.aliases()
    hits, unread = [], []
    for digest, named in rows.items():
        if not store.exists(digest):
            continue
        snapshot = Digest(str(store.manifest(digest).body.get("snapshot", "")))
        prompts = found.prompts.get(snapshot, [])
        if (within and snapshot not in within) or not (prompts or wanted.has_text):
            continue
        texts = probe_texts(store, digest)
        if isinstance(texts, Place):
            unread.append(texts)
            continue
        places = find_probes(texts, wanted, prompts)
        if places:
            live = tuple(f"{row.name}@{row.alias}" for row in aliases if row.digest == digest)
            hits.append(InRelease(digest, tuple(named), tuple(places), len(texts.probes), live))
    return tuple(hits), unread
