"""The SQL database behind the store: connections, transactions, schema.

SQLite in write-ahead mode by default, PostgreSQL by URL. Writers take their lock at the start of the transaction
(`BEGIN IMMEDIATE`; `FOR UPDATE` on the head row in PostgreSQL), so two of them never work on the same old state. Whatever
the database refuses comes out as a `StoreError` in our words, after the transaction was rolled back.

alembic takes most of a second to import, so it is reached only when one plain query finds the schema absent or older.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from budwood.errors import StoreError
from budwood.store.leases import gate
from budwood.store.schema import REVISION

_WRITE = "budwood_write"
SHARED_BYTES = 64 << 10
"""Of the file beside a catalog in write-ahead mode: it grows by 32 KiB, and is written at the first reading already."""


class Catalog:
    """One database; safe for threads and for several processes.

    Args:
        file: the SQLite file when `url` is empty.
        url: SQLAlchemy URL of another database, e.g. postgresql+psycopg://….
        locks: folder of the lock file that lets only one process migrate.
        read_only: open for reading; a write is refused.
        wait_s: how long a writer waits for another one.
    """

    def __init__(self, file: Path, url: str, locks: Path, *, read_only: bool, wait_s: float) -> None:
        self._file = file
        self._locks = locks
        self._read_only = read_only
        self._wait_s = wait_s
        self._where = url.split("@")[-1] if url else str(file)
        with self._in_our_words():
            self._engine = _engine_for(make_url(url), read_only, wait_s) if url else self._sqlite()
            try:
                self._migrate()
            except Exception:
                self._engine.dispose()
                raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that sees one state of the catalog."""
        with self._in_our_words(), self._engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                # Its default shows each statement the newest state, so that two of them may not fit together.
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that holds the write lock; it is committed at the end, rolled back on any exception.

        Raises:
            StoreError: read-only, locked by another process for longer than `wait_s`, disk full, damaged file.
        """
        if self._read_only:
            raise StoreError(
                "The store may not be written: this folder is read-only.",
                where=self._where,
                mend="Nothing was changed. Check owner, permissions and mount of that folder.",
            )
        with self._in_our_words(), self._engine.connect() as connection:
            connection = connection.execution_options(**{_WRITE: True})
            with connection.begin():
                if connection.dialect.name == "postgresql":
                    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {max(1, round(self._wait_s * 1000))}")
                yield connection

    def close(self) -> None:
        self._engine.dispose()

    def _sqlite(self) -> Engine:
        if self._read_only and not self._file.exists():
            raise StoreError("This read-only store has no catalog.", where=self._where, mend="Open it writable once.")
        if not self._read_only:
            return _engine_for(URL.create("sqlite+pysqlite", database=str(self._file)), False, self._wait_s)
        # On a read-only file system SQLite cannot make the shared-memory file of WAL; nobody can write there either.
        frozen = bool(os.statvfs(self._file).f_flag & os.ST_RDONLY)
        query = {"mode": "ro", "uri": "true", **({"immutable": "1"} if frozen else {})}
        url = URL.create("sqlite+pysqlite", database=f"file:{self._file}", query=query)
        return _engine_for(url, True, self._wait_s)

    def _migrate(self) -> None:
        if self._revision() == REVISION:
            return
        if self._read_only:
            raise StoreError("The catalog has an older schema.", where=self._where, mend="Open it writable once.")
        with gate(self._locks, exclusive=True):
            revision = self._revision()
            if revision is not None and revision > REVISION:
                raise StoreError(
                    f"The catalog has schema {revision}; this Budwood knows schemas up to {REVISION}.",
                    where=self._where,
                    mend="Use the newer Budwood that wrote it.",
                )
            if revision != REVISION:
                with self.write() as connection:
                    _upgrade(connection)

    def _revision(self) -> str | None:
        with self._engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            value = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            return None if value is None else str(value)

    @contextmanager
    def _in_our_words(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise self._explain(str(error.orig)) from error
        except SQLAlchemyError as error:
            raise StoreError(f"The catalog cannot be used: {error}.", where=self._where, mend="Check its URL.") from error

    def _is_full(self) -> bool:
        """Whether there is no room for the memory that SQLite's processes share; without it, all it says is "I/O error"."""
        return shutil.disk_usage(self._file.parent).free < SHARED_BYTES

    def _explain(self, message: str) -> StoreError:
        low = message.lower()
        if "locked" in low or "busy" in low or "lock timeout" in low:
            return StoreError(
                f"The catalog is locked by another process; waited {self._wait_s:g} s.",
                where=self._where,
                mend="Nothing was changed. Let the other command finish, then run again.",
            )
        if "readonly" in low or "read-only" in low or "unable to open" in low:
            return StoreError(
                f"The catalog may not be written or opened ({message}).",
                where=self._where,
                mend="Nothing was changed. Check owner, permissions and mount of that folder.",
            )
        if "connection" in low or "could not translate" in low or "resolve host" in low:
            return StoreError(
                f"The catalog cannot be reached: {' '.join(message.split())}.",
                where=self._where,
                mend="Check that the database runs and takes this user; a password comes from PGPASSWORD or ~/.pgpass. "
                "Run again then: what was not committed has changed nothing.",
            )
        if "full" in low or "no space left" in low or ("disk i/o error" in low and self._is_full()):
            return StoreError(
                "The disk is full: the catalog was not written.",
                where=self._where,
                mend="Nothing was changed. Free some space.",
            )
        if "malformed" in low or "not a database" in low:
            return StoreError(
                f"The catalog is damaged ({message}).",
                where=self._where,
                mend="Restore it from a backup. Objects and their lineage are safe: they lie in objects/ as files.",
            )
        return StoreError(f"The catalog refused: {message}.", where=self._where, mend="Nothing was changed.")


def _engine_for(url: URL, read_only: bool, wait_s: float = 0.0) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": max(2, round(wait_s))})
    # No pool: opening a file costs nothing, and no connection is left over in another thread or after a fork.
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": wait_s})

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, record: Any) -> None:
        # Transactions are begun by us, below; the driver's own rules would let reads run outside of them.
        connection.isolation_level = None
        # A text that is no UTF-8 was put there by somebody else; it's shown as it is, for the check to find, and no crash.
        connection.text_factory = lambda data: data.decode("utf-8", "backslashreplace")
        if not read_only:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        write = connection.get_execution_options().get(_WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
