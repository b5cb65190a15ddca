"""Writing to the history: an event and what it changes are one transaction.

    with ledger.transaction() as entry:
        entry.connection.execute(...)           # move the alias
        entry.append(HistoryEvent(...))         # and say so; both or neither

Before an event is added the chain is checked, from its beginning to the head row and the head file: to a history that was
tampered with nothing is added until somebody says so with `repair`.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select, update

from budwood.errors import StoreError
from budwood.identity import Digest, canonical_json
from budwood.store.catalog import Catalog
from budwood.store.durable import replace_file, storing
from budwood.store.event_rows import from_row, read_events, to_row
from budwood.store.history import (
    REPAIRED,
    UNREADABLE_HEAD,
    Head,
    HistoryEvent,
    chain_faults,
    next_event,
    sort_accepted,
    state_of,
)
from budwood.store.schema import history, history_head

Clock = Callable[[], datetime]


class Entry:
    """An open transaction that can add events."""

    def __init__(self, connection: Connection, head: Head, last_at: str | None, clock: Clock) -> None:
        self.connection = connection
        self.head = head
        self._last_at = last_at
        self._clock = clock

    def append(self, event: HistoryEvent) -> HistoryEvent:
        """Number, date, bind and write one event; its own `seq`, `at`, `previous` and `digest` do not matter."""
        bound = next_event(self.head, self._last_at, self._clock(), event)
        self.connection.execute(insert(history).values(**to_row(bound)))
        self.head, self._last_at = Head(bound.seq, bound.digest), bound.at
        self.connection.execute(update(history_head).where(history_head.c.id == 1).values(seq=bound.seq, digest=bound.digest))
        return bound

    def event(self, seq: int) -> HistoryEvent:
        """Read one event of this history."""
        return from_row(self.connection.execute(select(history).where(history.c.seq == seq)).one())


class Ledger:
    """The history of one store; `file` is the second witness of its head."""

    def __init__(self, catalog: Catalog, file: Path, scratch: Callable[[], Path], clock: Clock) -> None:
        self._catalog = catalog
        self._file = file
        self._scratch = scratch
        self._clock = clock
        self._checked: tuple[int, bytes] = (0, b"")

    @contextmanager
    def transaction(self) -> Iterator[Entry]:
        """Open a write transaction at the checked end of the history.

        Raises:
            StoreError: the end is not what was written last, or the catalog cannot be written. Nothing was changed.
        """
        with self._catalog.write() as connection:
            head, last_at = self._checked_head(connection)
            entry = Entry(connection, head, last_at, self._clock)
            yield entry
        if entry.head != head:
            self._follow(entry.head)

    def events(self, name: str | None = None, *, kinds: Sequence[str] = ()) -> list[HistoryEvent]:
        """Read all events in the order of their numbers, or those of one release name, of some kinds."""
        with self._catalog.read() as connection:
            return read_events(connection, name, kinds=kinds)

    def repair(self, *, who: str, reason: str) -> HistoryEvent:
        """Go on from what is there, and put on record what was wrong; the faults stay visible.

        Raises:
            StoreError: the catalog or the head file cannot be written. Nothing was changed.
        """
        scratch = self._scratch()
        with self._catalog.write() as connection:
            events = read_events(connection)
            faults = chain_faults(events, head_row(connection), self.read_file())
            head = Head(events[-1].seq, events[-1].digest) if events else Head()
            connection.execute(delete(history_head))
            connection.execute(insert(history_head).values(id=1, seq=head.seq, digest=head.digest))
            entry = Entry(connection, head, events[-1].at if events else None, self._clock)
            detail = {"faults": faults, "state": state_of(events)}
            event = entry.append(HistoryEvent(0, "", REPAIRED, who, reason=reason, detail=detail))
            # Inside the transaction: a head file that cannot be put right leaves everything as it was.
            with storing("the file history.head", self._file.parent):
                self._write_file(entry.head, scratch, force=True)
        return event

    def found(self) -> None:
        """Make the head file of a new history; without it a removed file could not be told from a new store."""
        if not self._file.exists():
            with self._catalog.read() as connection:
                head = head_row(connection)
            if head == Head():
                self._follow(Head())

    def read_file(self) -> Head | None:
        """Read the head as the file has it; None: there is no file."""
        try:
            value = json.loads(self._file.read_bytes())
            head = Head(int(value["seq"]), Digest(str(value["digest"])))
            return head if head.seq >= 0 else UNREADABLE_HEAD
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return UNREADABLE_HEAD

    def _checked_head(self, connection: Connection) -> tuple[Head, str | None]:
        """Check the whole history and give its end.

        What this process has checked before is only compared with what it was then: 16 µs an event instead of 75.
        """
        table = head_row(connection, lock=True)
        file = self.read_file()
        rows = connection.execute(select(history).order_by(history.c.seq)).all()
        count, seen = self._checked
        whole = hashlib.sha256()
        for number, row in enumerate(rows, start=1):
            whole.update(repr(tuple(row)).encode())
            if number == count and whole.digest() != seen:
                count = 0
        count = 0 if count > len(rows) else count
        before = [Head(row.seq, Digest(row.digest)) for row in rows[:count]]
        if chain_faults([from_row(row) for row in rows[count:]], table, file, before=before):
            events = [from_row(row) for row in rows]
            faults, _ = sort_accepted(events, chain_faults(events, table, file))
            if faults:
                raise self._altered(faults)
        self._checked = (len(rows), whole.digest())
        last = from_row(rows[-1]) if rows else None
        return (Head(last.seq, last.digest), last.at) if last else (Head(), None)

    def _altered(self, faults: Sequence[str]) -> StoreError:
        more = f" ({len(faults) - 1:,} more)" if len(faults) > 1 else ""
        return StoreError(
            f"The history was altered: {faults[0].removeprefix('history: ')}{more}.",
            where=str(self._file.parent),
            mend="Nothing was changed. Read `budwood verify`, restore the catalog from a backup, or accept it "
            "with `budwood verify --accept-history REASON`.",
        )

    def _follow(self, head: Head) -> None:
        """Let the file follow the catalog. A full disk here leaves it behind, which is no fault: the move is done."""
        with suppress(OSError, StoreError):
            self._write_file(head, self._scratch())

    def _write_file(self, head: Head, scratch: Path, *, force: bool = False) -> None:
        handle = os.open(self._file.parent / "tmp" / ".head", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            known = self.read_file()
            if force or known is None or head.seq > known.seq:
                data = canonical_json({"seq": head.seq, "digest": head.digest})
                replace_file(self._file, data, scratch=scratch)
        finally:
            os.close(handle)


def head_row(connection: Connection, *, lock: bool = False) -> Head | None:
    query = select(history_head.c.seq, history_head.c.digest).where(history_head.c.id == 1)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else Head(row.seq, Digest(row.digest))
