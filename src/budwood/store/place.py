"""Where the catalog of a store is: in its folder, or in a database that others reach too.

A store remembers a catalog elsewhere in the file `catalog.url`, so that no command ever works on another catalog by mistake:
a URL that is given must be the one that is remembered, and one that is new must lead to an empty database. A password is
never kept: libpq takes it from PGPASSWORD, from PGPASSFILE or from ~/.pgpass.
"""

from pathlib import Path

from sqlalchemy import URL, func, make_url, select
from sqlalchemy.exc import ArgumentError

from budwood.errors import StoreError
from budwood.store.catalog import Catalog
from budwood.store.durable import replace_file, storing
from budwood.store.index import object_rows
from budwood.store.ledger import head_row
from budwood.store.schema import history

FILE = "catalog.url"
LOCAL = "catalog.sqlite"


def remembered(root: Path) -> str:
    """Read where the catalog is; empty: in the folder itself."""
    with storing(f"the file {FILE}", root):
        try:
            return (root / FILE).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""


def check_url(url: str) -> URL:
    """Accept the URL of a catalog.

    Raises:
        StoreError: it cannot be read, holds a password, or is of no database that we speak to.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError(
            "The catalog's URL cannot be read.", mend="Write it as postgresql+psycopg://user@host/database, or leave it out."
        ) from None
    if parsed.password is not None:
        raise StoreError(
            "The catalog's URL holds a password, which would be kept in a file.",
            mend="Leave it out of the URL, and put it into PGPASSWORD or ~/.pgpass.",
        )
    if parsed.get_backend_name() != "postgresql":
        raise StoreError(
            f"A catalog cannot be kept in {parsed.get_backend_name()!r}.",
            mend="Write postgresql+psycopg://user@host/database, or leave it out for SQLite in the store's own folder.",
        )
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


def settle(root: Path, given: str) -> str:
    """Decide which catalog is meant: the one that is given, remembered, or in the folder.

    Raises:
        StoreError: what is given is not what this store has.
    """
    known = remembered(root)
    if not given:
        return known
    url = check_url(given).render_as_string(hide_password=False)
    if known and known != url:
        raise StoreError(
            f"This store keeps its catalog in another database: {known}.",
            where=str(root / FILE),
            mend="Leave the URL out, or move the catalog there: `budwood catalog URL`.",
        )
    if not known and (root / LOCAL).exists():
        raise StoreError(
            "This store has its catalog in its own folder.",
            where=str(root / LOCAL),
            mend="Leave the URL out, or move the catalog there: `budwood catalog URL`.",
        )
    return url


def check_ours(catalog: Catalog, root: Path) -> None:
    """Refuse a database that another store writes into: its history is not the one whose end this folder knows."""
    with catalog.read() as connection:
        head = head_row(connection)
        last = connection.execute(select(func.max(history.c.seq))).scalar()
        empty = not last and head is not None and head.seq == 0 and not object_rows(connection)
    if not empty and not (root / "history.head").exists():
        raise StoreError(
            "That database holds the catalog of another store.",
            where=str(root),
            mend="Nothing was changed. Give this store an empty database of its own, or open the folder that it belongs to.",
        )


def remember(root: Path, url: str, scratch: Path) -> None:
    """Write down where the catalog is; empty: in the folder itself."""
    with storing(f"the file {FILE}", root):
        if url:
            replace_file(root / FILE, f"{url}\n".encode(), scratch=scratch)
        else:
            (root / FILE).unlink(missing_ok=True)
