"""Taking rows out: write what stands in the place of each object, put on record, remove, put on record, look again.

Cut short before the first record, nothing is lost and what was written is found again; after it, the next call, or
`finish`, carries out what the record says, without knowing what was looked for.
"""

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from budwood.data.forget.found import Survey
from budwood.data.forget.release import without_probes
from budwood.data.forget.report import without_cases
from budwood.data.forget.requests import without_requests
from budwood.data.forget.snapshot import without_rows
from budwood.data.forget.survey import survey
from budwood.data.forget.wanted import Wanted
from budwood.errors import DataError, StoreError
from budwood.events import Event, Reporter, silent
from budwood.identity import Digest, short
from budwood.store import Removal, Store

LOCK = ".forget"


@dataclass(frozen=True)
class Forgotten:
    """What was done.

    Args:
        found: what there was.
        replaced: removed object → what stands in its place; None: nothing.
        offered: live release that still holds such a prompt → the release without it that may be promoted, None where none
            could be made.
        left: what a second look over the whole store still finds.
        finished: removals that had been cut short and were finished first.
    """

    found: Survey
    replaced: dict[Digest, Digest | None]
    offered: dict[Digest, Digest | None]
    left: Survey
    finished: int

    @property
    def is_complete(self) -> bool:
        """Whether nothing of it is left that this store's files hold."""
        return self.left.is_empty and not self.left.elsewhere and not self.left.unread

    def as_dict(self) -> dict[str, Any]:
        return {
            "found": self.found.as_dict(),
            "replaced": self.replaced,
            "offered": self.offered,
            "left": self.left.as_dict(),
            "finished": self.finished,
            "complete": self.is_complete,
        }


def forget(
    store: Store,
    wanted: Wanted,
    *,
    who: str,
    reason: str,
    snapshots: Sequence[Digest] = (),
    report: Reporter = silent,
) -> Forgotten:
    """Take the rows out of everything that holds them.

    Args:
        store: the store.
        wanted: what is looked for; it is written down nowhere.
        who: acts; for the record.
        reason: why; for the record.
        snapshots: only out of these and what was made from them; empty: all.
        report: told of progress.

    Raises:
        DataError: no reason; or one that holds what is looked for; or a file that it cannot be taken out of.
        StoreError: an object is in use by another process, or another one takes rows out. Nothing was removed.
    """
    check_reason(wanted, who=who, reason=reason)
    with _alone(store):
        finished = store.finish_removals()
        found = survey(store, wanted, snapshots=snapshots, report=report)
        replaced: dict[Digest, Digest | None] = {}
        offered: dict[Digest, Digest | None] = {}
        if not found.is_empty:
            _check_idle(store, found)
            replaced = _replace(store, found, wanted, who=who, report=report)
            for hit in found.releases:
                (offered if hit.live else replaced)[hit.digest] = without_probes(store, hit, who=who, reason=reason)
            report(Event("forget", f"Removing {len(replaced):,} objects"))
            if found.requests:
                # Before the record, which then has the figure; cut short in between, nothing of these is left to do.
                without_requests(store, wanted, set(found.keys))
            store.remove(_removal(found, replaced), who=who, reason=reason)
        left = survey(store, wanted, snapshots=_followed(store, snapshots), report=report) if not found.is_empty else found
    return Forgotten(found, replaced, offered, left, finished)


def finish(store: Store) -> int:
    """Carry out what is left of removals that were cut short; return how many there were."""
    with _alone(store):
        return store.finish_removals()


def check_reason(wanted: Wanted, *, who: str, reason: str) -> None:
    """Refuse a reason that could not be kept on record."""
    if not reason.strip():
        raise DataError("A removal needs a reason.", where="--reason", mend="Say why in a few words; it stays on record.")
    if wanted.in_value([reason, who]):
        raise DataError(
            "The reason, or who acts, holds what is looked for: it would stay on record.",
            where="--reason",
            mend="Say it otherwise, e.g. with the number of the request.",
        )


def _replace(store: Store, found: Survey, wanted: Wanted, *, who: str, report: Reporter) -> dict[Digest, Digest | None]:
    replaced: dict[Digest, Digest | None] = {}
    for number, snapshot in enumerate(found.snapshots, start=1):
        report(Event("forget", "Writing snapshots without the rows", number, len(found.snapshots), "snapshots"))
        replaced[snapshot.digest] = without_rows(store, snapshot, wanted, who=who)
    for number, one in enumerate(found.reports, start=1):
        report(Event("forget", "Writing reports without the cases", number, len(found.reports), "reports"))
        snapshot_now = replaced.get(one.snapshot) or store.current(one.snapshot)
        replaced[one.digest] = without_cases(store, one, snapshot_now, who=who)
    return replaced


def _removal(found: Survey, replaced: dict[Digest, Digest | None]) -> Removal:
    facts = {
        "rows": found.rows,
        "by_split": found.by_split,
        "cases": sum(len(one.cases) for one in found.reports),
        "probes": sum(len(one.probes) for one in found.releases if one.digest in replaced),
        "requests": sum(one.lines for one in found.requests),
        "trained": found.trained.as_dict(),
    }
    attachments = tuple((one.digest, one.name) for one in found.attachments)
    return Removal(replaced, attachments, found.work, facts)


def _check_idle(store: Store, found: Survey) -> None:
    """Refuse before anything is written: whoever works with such rows would write them down again."""
    held = store.held_elsewhere()
    wanted = [one.digest for one in found.snapshots] + [one.digest for one in found.reports]
    busy = [digest for digest in wanted if digest in held]
    if busy:
        kinds = ", ".join(f"{store.manifest(digest).kind} {short(digest)}" for digest in busy[:3])
        raise StoreError(
            f"A command that is running works with {kinds}{', …' if len(busy) > 3 else ''}.",
            mend="Nothing was changed. Let it end, or stop it (`budwood status` shows trainings); then run this again.",
        )


def _followed(store: Store, snapshots: Sequence[Digest]) -> list[Digest]:
    return [store.current(snapshot) for snapshot in snapshots]


@contextmanager
def _alone(store: Store) -> Iterator[None]:
    """Let one process at a time take rows out of a store; the hold ends with the process, however it ends."""
    with (store.root / "tmp" / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                "Another process is taking rows out of this store.",
                where=str(store.root),
                mend="Nothing was changed. Wait until it has ended.",
            ) from None
        yield
