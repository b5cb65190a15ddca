"""Tables that can be made again from the objects on disk (who are whose children), and the map from action to result."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, delete, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from budwood.identity import Digest
from budwood.store.catalog import Catalog
from budwood.store.schema import actions, objects, parents


class Index:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def add(self, found: Iterable[tuple[Digest, str, Sequence[Digest]]]) -> None:
        """Enter objects as (digest, kind, parents); known ones stay as they are."""
        with self._catalog.write() as connection:
            for digest, kind, above in found:
                upsert(connection, objects, {"digest": digest}, {"kind": kind})
                for parent in above:
                    upsert(connection, parents, {"child": digest, "parent": parent}, {})

    def remove(self, digests: Iterable[Digest]) -> None:
        with self._catalog.write() as connection:
            for digest in digests:
                connection.execute(delete(objects).where(objects.c.digest == digest))
                connection.execute(delete(parents).where(parents.c.child == digest))
                connection.execute(delete(actions).where(actions.c.digest == digest))

    def known(self) -> set[Digest]:
        with self._catalog.read() as connection:
            return set(object_rows(connection))

    def children(self, digest: str) -> list[Digest]:
        query = select(parents.c.child).where(parents.c.parent == digest).order_by(parents.c.child)
        with self._catalog.read() as connection:
            return [Digest(row.child) for row in connection.execute(query)]

    def result(self, key: str) -> Digest | None:
        """The object that an action gave when it was last done."""
        with self._catalog.read() as connection:
            found = connection.execute(select(actions.c.digest).where(actions.c.key == key)).scalar()
        return None if found is None else Digest(found)

    def record(self, key: str, digest: str, at: str) -> None:
        with self._catalog.write() as connection:
            upsert(connection, actions, {"key": key}, {"digest": digest, "at": at})


def object_rows(connection: Connection) -> dict[Digest, str]:
    """Every object that was entered → its kind."""
    return {Digest(row.digest): row.kind for row in connection.execute(select(objects.c.digest, objects.c.kind))}


def action_rows(connection: Connection) -> dict[str, Digest]:
    """Every action that was done → its result."""
    return {row.key: Digest(row.digest) for row in connection.execute(select(actions.c.key, actions.c.digest))}


def upsert(connection: Connection, table: Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Insert a row, or set `values` in the one that has this primary key; one statement, so two writers cannot clash."""
    row = {**key, **values}
    if connection.dialect.name == "sqlite":
        connection.execute(_settle(sqlite.insert(table).values(row), key, values))
    elif connection.dialect.name == "postgresql":
        connection.execute(_settle(postgresql.insert(table).values(row), key, values))
    else:
        connection.execute(delete(table).where(*(table.c[name] == value for name, value in key.items())))
        connection.execute(insert(table).values(row))


Insert = TypeVar("Insert", sqlite.Insert, postgresql.Insert)


def _settle(statement: Insert, key: Mapping[str, Any], values: Mapping[str, Any]) -> Insert:
    if not values:
        return statement.on_conflict_do_nothing(index_elements=list(key))
    return statement.on_conflict_do_update(index_elements=list(key), set_=values)
