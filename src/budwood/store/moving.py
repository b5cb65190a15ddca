"""Moving a catalog to another database, whole, with nobody at work meanwhile.

Everything is copied in one transaction and read back; then one file says where the catalog is from now on. Cut short before
that, the old catalog is still the one that counts; cut short after it, the new one.

A mark says which move has begun, so that the next one can finish it: what lies at the target then is a copy of ours that
nobody has used, and gives way. Without the mark whatever lies there is somebody's, and stays.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Connection, delete, insert, select, text

from budwood.errors import StoreError
from budwood.store.catalog import Catalog
from budwood.store.durable import replace_file, storing
from budwood.store.event_rows import read_events
from budwood.store.history import HistoryEvent, chain_faults, sort_accepted
from budwood.store.index import object_rows
from budwood.store.ledger import Ledger, head_row
from budwood.store.place import LOCAL, check_url, remember, remembered
from budwood.store.schema import metadata, observations

MARK = "catalog.moving"
HERE = "local"


def move_catalog(root: Path, source: Catalog, ledger: Ledger, target_url: str, *, locks: Path, wait_s: float) -> int:
    """Copy the catalog to another database and let the store use that; return how many rows were copied: 0 if it is there.

    Args:
        root: the store's folder.
        source: the catalog that it has.
        ledger: its history.
        target_url: where it is to be; empty: SQLite in the folder.
        locks: folder of the lock file that lets only one process migrate.
        wait_s: how long a writer waits for another one.

    Raises:
        StoreError: the target is not empty or cannot be written, or the history is damaged. The old catalog still counts then.
    """
    url = check_url(target_url).render_as_string(hide_password=False) if target_url else ""
    known, begun = remembered(root), _begun(root)
    if begun == (known or HERE):
        _put_away(root)
    if known == url:
        return 0
    if known and begun == HERE:
        _drop_copy(root)
    if not url:
        if (root / LOCAL).exists():
            raise StoreError(f"There is a {LOCAL} in this store already.", where=str(root), mend="Move that file away first.")
        _mark(root, HERE)
    target = Catalog(root / LOCAL, url, locks, read_only=False, wait_s=wait_s)
    try:
        with source.write() as old:
            events = read_events(old)
            faults, _ = sort_accepted(events, chain_faults(events, head_row(old, lock=True), ledger.read_file()))
            if faults:
                raise StoreError(f"The history was altered: {faults[0]}.", mend="Nothing was moved. Read `budwood verify`.")
            with target.write() as new:
                _check_ours(new, old, events, begun=begun != "" and begun == url)
                _mark(root, url or HERE)
                copied = _copy(old, new)
            with target.read() as new:
                if read_events(new) != events:
                    raise StoreError("The history was not copied whole.", mend="Nothing was moved. Report this.")
            remember(root, url, root / "tmp" / f".{uuid4().hex}")
    finally:
        target.close()
    source.close()
    _put_away(root)
    return copied


def _begun(root: Path) -> str:
    """Where the catalog was being moved to when a move was cut short; empty: none was."""
    with storing(f"the file {MARK}", root):
        try:
            return (root / MARK).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""


def _mark(root: Path, place: str) -> None:
    with storing(f"the file {MARK}", root):
        replace_file(root / MARK, f"{place}\n".encode(), scratch=root / "tmp" / f".{uuid4().hex}")


def _put_away(root: Path) -> None:
    """What is left to do once the store knows its new catalog. Again: finishes."""
    with storing("the old catalog under another name", root):
        if remembered(root):
            for path in root.glob(f"{LOCAL}*"):
                # Kept, under a name that nothing opens: the old catalog is the only way back to the day before.
                os.replace(path, path.with_name(f"moved-{path.name}"))
        (root / MARK).unlink(missing_ok=True)


def _drop_copy(root: Path) -> None:
    """Take away what a move into the folder left there when it was cut short: the store has never used it."""
    with storing("the catalog in its folder", root):
        for path in root.glob(f"{LOCAL}*"):
            path.unlink()


def _check_ours(new: Connection, old: Connection, events: Sequence[HistoryEvent], *, begun: bool) -> None:
    """Refuse a database in which something is, unless a move to it was `begun` and that is an unused copy, if of earlier."""
    head, found, there = head_row(new, lock=True), read_events(new), object_rows(new)
    if begun:
        # Where nothing has happened yet, the objects tell whose it is.
        fits = found == list(events[: len(found)]) and (bool(found) or there.keys() <= object_rows(old).keys())
    else:
        fits = head is not None and not head.seq and not found and not there
    if head is None or not fits:
        raise StoreError(
            "The database to move to is not empty.", mend="Nothing was moved. Give this store an empty database of its own."
        )


def _copy(old: Connection, new: Connection) -> int:
    copied = 0
    for table in metadata.sorted_tables:
        rows = [dict(row._mapping) for row in old.execute(select(table))]
        new.execute(delete(table))
        if rows:
            new.execute(insert(table), rows)
        copied += len(rows)
    if new.dialect.name == "postgresql":
        # Rows that came with their numbers do not advance the counter that gives the next one.
        highest = f"(SELECT coalesce(max(id), 0) + 1 FROM {observations.name})"
        new.execute(text(f"SELECT setval(pg_get_serial_sequence('{observations.name}', 'id'), {highest}, false)"))
    return copied
