"""What was found of the rows that are looked for, object by object."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from budwood.data.forget.trained import Trained
from budwood.data.rows import REJECTED, SPLITS
from budwood.identity import Digest
from budwood.store import ReleaseRow


@dataclass(frozen=True)
class Place:
    """Where something is, and why it stays or could not be looked into."""

    where: str
    why: str


@dataclass(frozen=True)
class Attachment:
    """A file beside an object."""

    digest: Digest
    name: str

    def __str__(self) -> str:
        return f"{self.name} beside {self.digest[:12]}"


@dataclass(frozen=True)
class InSnapshot:
    """Rows of one snapshot that go.

    Args:
        digest: the snapshot's.
        name: of its recipe.
        rows: train, validation, test, rejected → ids of the rows that go, where there are any.
        copies: how many of them were not looked for, but say the same as one that was.
        other_lines: other file → lines that name such a row or hold the text.
        sources: source file → lines that the rows came from, where they still stand unless somebody took them out.
    """

    digest: Digest
    name: str
    rows: Mapping[str, tuple[str, ...]]
    copies: int
    other_lines: Mapping[str, int]
    sources: Mapping[str, tuple[int, ...]]

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(row for rows in self.rows.values() for row in rows)

    @property
    def counts(self) -> dict[str, int]:
        return {split: len(rows) for split, rows in self.rows.items()}


@dataclass(frozen=True)
class InReport:
    """Cases of one report that go, of how many."""

    digest: Digest
    snapshot: Digest
    suite: str
    cases: frozenset[str]
    total: int


@dataclass(frozen=True)
class InRelease:
    """Golden probes of one release that are such a row's prompt (their places, from 0), of how many; `live`: by aliases."""

    digest: Digest
    rows: tuple[ReleaseRow, ...]
    probes: tuple[int, ...]
    total: int
    live: tuple[str, ...]

    @property
    def titles(self) -> list[str]:
        return [f"{row.name}@{row.version}" for row in self.rows]


@dataclass(frozen=True)
class InRequests:
    """Lines of one file of sampled requests that go."""

    path: str
    lines: int


@dataclass(frozen=True)
class Survey:
    """What was found.

    Args:
        snapshots: that hold such rows.
        reports: that hold such cases.
        releases: whose golden probes are such prompts.
        trained: what was trained on the rows.
        attachments: pages beside objects that stay, which hold the text.
        requests: files of sampled requests that hold such lines.
        keys: of rows that go, by which their copies are known; they live in memory only.
        work: files that wait in work folders, such as measurements of golden probes, which hold prompts as tokens, and
            vectors of texts: key and name.
        elsewhere: where else in the store the text is, and cannot be taken out by this.
        unread: what could not be looked into, with the reason.
        missed: row ids that were asked for and are nowhere.
    """

    snapshots: tuple[InSnapshot, ...] = ()
    reports: tuple[InReport, ...] = ()
    releases: tuple[InRelease, ...] = ()
    trained: Trained = field(default_factory=Trained)
    attachments: tuple[Attachment, ...] = ()
    requests: tuple[InRequests, ...] = ()
    keys: frozenset[bytes] = field(default=frozenset(), repr=False)
    work: tuple[tuple[str, str], ...] = ()
    elsewhere: tuple[Place, ...] = ()
    unread: tuple[Place, ...] = ()
    missed: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Different rows, however many snapshots hold each."""
        return len({row for one in self.snapshots for row in one.ids})

    @property
    def by_split(self) -> dict[str, int]:
        """Rows by split, those of several snapshots counted in each."""
        counts: Counter[str] = Counter()
        for one in self.snapshots:
            counts.update(one.counts)
        return {name: counts[name] for name in (*SPLITS, REJECTED)}

    @property
    def sources(self) -> dict[str, list[int]]:
        """Source file, as recipes name it → lines that the rows came from."""
        lines: dict[str, set[int]] = {}
        for one in self.snapshots:
            for file, numbers in one.sources.items():
                lines.setdefault(file, set()).update(numbers)
        return {file: sorted(numbers) for file, numbers in sorted(lines.items())}

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that could be taken out."""
        return not (self.snapshots or self.reports or self.releases or self.attachments or self.requests)

    def as_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "by_split": self.by_split,
            "snapshots": [
                {
                    "digest": one.digest,
                    "name": one.name,
                    "rows": {split: list(rows) for split, rows in one.rows.items()},
                    "copies": one.copies,
                    "other_lines": dict(one.other_lines),
                    "sources": {file: list(lines) for file, lines in one.sources.items()},
                }
                for one in self.snapshots
            ],
            "reports": [{"digest": one.digest, "cases": len(one.cases), "of": one.total} for one in self.reports],
            "releases": [
                {
                    "digest": one.digest,
                    "names": one.titles,
                    "probes": [place + 1 for place in one.probes],
                    "of": one.total,
                    "live": list(one.live),
                }
                for one in self.releases
            ],
            "trained": self.trained.as_dict(),
            "attachments": [str(one) for one in self.attachments],
            "requests": [vars(one) for one in self.requests],
            "kept_in_work": len(self.work),
            "elsewhere": [vars(one) for one in self.elsewhere],
            "unread": [vars(one) for one in self.unread],
            "missed": list(self.missed),
        }
