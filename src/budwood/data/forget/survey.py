"""Where rows lie that are looked for, and what was made from them. Nothing is touched.

    found = survey(store, wanted)
    found.rows, found.snapshots, found.reports, found.releases, found.trained

A row goes with every row that says the same: a copy that was rejected as a duplicate holds its text as well. Reports, golden
probes and pages follow from the rows; a text is looked for in them besides.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budwood.data.forget.elsewhere import kept_probes, kept_vectors, look_elsewhere
from budwood.data.forget.found import InRelease, InReport, InSnapshot, Place, Survey
from budwood.data.forget.lines import every, read_lines
from budwood.data.forget.probes import find_probes, probe_texts
from budwood.data.forget.requests import find_requests
from budwood.data.forget.trained import find_trained
from budwood.data.forget.wanted import Wanted, key_of, scalars, spoken
from budwood.data.rows import REJECTED, SPLITS
from budwood.events import Event, Reporter, silent
from budwood.identity import Digest
from budwood.store import ReleaseRow, Store

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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
    found, keys = _find_rows(store, wanted, list(snapshots) or list(store.objects("snapshot")), ticker)
    hits = tuple(_as_hits(store, wanted, found))
    ids = {row for one in hits for row in one.ids}
    reports = tuple(_find_cases(store, wanted, ids, set(snapshots)))
    releases, unread = _find_releases(store, wanted, found, set(snapshots))
    gone = {one.digest for one in hits} | {one.digest for one in reports}
    gone |= {one.digest for one in releases if not one.live}
    attachments, elsewhere = look_elsewhere(store, wanted, gone, report)
    return Survey(
        snapshots=hits,
        reports=reports,
        releases=releases,
        trained=find_trained(store, {one.digest: one.counts for one in hits}),
        attachments=attachments,
        # What was sampled came of no snapshot: where only some are looked into, it is not.
        requests=() if snapshots else tuple(find_requests(store, wanted, keys)),
        keys=frozenset(keys),
        work=_in_work(store, hits),
        elsewhere=elsewhere,
        unread=tuple(unread),
        missed=tuple(prefix for prefix in wanted.rows if not any(row.startswith(prefix) for row in ids)),
    )


def _in_work(store: Store, hits: Sequence[InSnapshot]) -> tuple[tuple[str, str], ...]:
    """What waits in work folders and may have been made from such rows; it can all be made again."""
    may_be_probes = any(set(one.rows) & {"train", "validation"} for one in hits)
    return (*(kept_probes(store) if may_be_probes else ()), *(kept_vectors(store) if hits else ()))


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
    """Rows of one snapshot that go.

    Args:
        ids: by split.
        sources: lines by source file.
        prompts: turns before the answer of those that may have become golden probes.
        copies: how many only say the same as one that was looked for.
    """

    ids: dict[str, list[str]] = field(default_factory=dict)
    sources: dict[str, list[int]] = field(default_factory=dict)
    prompts: list[list[str]] = field(default_factory=list)
    copies: int = 0

    def add(self, split: str, row: Mapping[str, Any]) -> None:
        self.ids.setdefault(split, []).append(str(row["row_id"]))
        self.sources.setdefault(str(row["source"]["file"]), []).append(int(row["source"]["line"]))
        if split in ("train", "validation"):
            self.prompts.append(spoken(row)[:-1])

    @property
    def all_ids(self) -> frozenset[str]:
        return frozenset(row for rows in self.ids.values() for row in rows)


def _find_rows(
    store: Store, wanted: Wanted, snapshots: Sequence[Digest], tick: _Ticker
) -> tuple[dict[Digest, _Rows], set[bytes]]:
    found = {digest: _Rows() for digest in snapshots}
    keys: set[bytes] = set()
    for digest, rows in found.items():
        for split, row in _rows(store, digest, tick, wanted.may_hold):
            if wanted.in_row(row):
                rows.add(split, row)
                # Where the words themselves are what was looked for, its copies are found by them too.
                if not wanted.in_value(spoken(row)):
                    keys.add(key_of(row))
    for digest, rows in found.items() if keys else ():
        ids = rows.all_ids
        for split, row in _rows(store, digest, tick, every):
            if row["row_id"] not in ids and key_of(row) in keys:
                rows.add(split, row)
                rows.copies += 1
    return found, keys


def _as_hits(store: Store, wanted: Wanted, found: Mapping[Digest, _Rows]) -> Iterator[InSnapshot]:
    for digest, rows in found.items():
        other = _other_lines(store, digest, wanted, rows.all_ids)
        if rows.ids or other:
            name = str(store.manifest(digest).body.get("name", ""))
            ids = {split: tuple(listed) for split, listed in rows.ids.items()}
            sources = {file: tuple(lines) for file, lines in rows.sources.items()}
            yield InSnapshot(digest, name, ids, rows.copies, other, sources)


def _rows(
    store: Store, digest: Digest, tick: _Ticker, worth: Callable[[bytes], bool]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    def counted(line: bytes) -> bool:
        tick()
        return worth(line)

    names = {entry.path for entry in store.manifest(digest).files}
    for path in ROW_FILES:
        if path in names:
            for _, row in read_lines(store, digest, path, worth=counted):
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
    store: Store, wanted: Wanted, found: Mapping[Digest, _Rows], within: set[Digest]
) -> tuple[tuple[InRelease, ...], list[Place]]:
    rows: dict[Digest, list[ReleaseRow]] = {}
    for row in store.releases():
        rows.setdefault(row.digest, []).append(row)
    aliases = store.aliases()
    releases, unread = [], []
    tokenizers: dict[Path, PreTrainedTokenizerBase] = {}
    for digest, named in rows.items():
        if not store.exists(digest):
            continue
        snapshot = Digest(str(store.manifest(digest).body.get("snapshot", "")))
        prompts = found[snapshot].prompts if snapshot in found else []
        if (within and snapshot not in within) or not (prompts or wanted.has_text):
            continue
        texts = probe_texts(store, digest, tokenizers)
        if isinstance(texts, Place):
            unread.append(texts)
            continue
        places = find_probes(texts, wanted, prompts)
        if places:
            live = tuple(f"{row.name}@{row.alias}" for row in aliases if row.digest == digest)
            releases.append(InRelease(digest, tuple(named), tuple(places), len(texts.probes), live))
    return tuple(releases), unread
