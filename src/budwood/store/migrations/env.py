"""What alembic runs: the migrations, on the connection that `Catalog` hands in."""

from alembic import context
from sqlalchemy import Connection

from budwood.store.schema import metadata


def run(connection: Connection) -> None:
    """Migrate inside the transaction that is already open, so that a crash leaves the old schema."""
    context.configure(connection=connection, target_metadata=metadata, transactional_ddl=False)
    context.run_migrations()


run(context.config.attributes["connection"])
