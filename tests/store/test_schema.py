"""The migrations make exactly the tables that the code uses; the SQL is fit for PostgreSQL; imports stay light."""

import subprocess
import sys
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateTable

import budwood.store
from budwood.store import Store, open_store
from budwood.store.schema import REVISION, metadata


def test_the_newest_migration_is_the_one_that_the_code_expects() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(budwood.store.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == REVISION


def test_migrating_gives_the_tables_of_the_schema(store: Store) -> None:
    store.aliases()
    place = store.catalog_place()
    engine = create_engine(place if "://" in place else f"sqlite:///{place}", poolclass=NullPool)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_every_table_can_be_written_for_postgresql() -> None:
    for table in metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=PGDialect()))  # type: ignore[no-untyped-call]


def test_opening_a_store_imports_no_database_and_using_one_no_alembic(store: Store) -> None:
    store.aliases()
    script = (
        "import sys; from pathlib import Path; from budwood.store import open_store\n"
        "store = open_store(Path(sys.argv[1])); list(store.objects())\n"
        "assert not {'sqlalchemy', 'alembic', 'torch', 'numpy'} & set(sys.modules)\n"
        "store.aliases(); store.history()\n"
        "assert 'alembic' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(store.root)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_catalog_of_the_first_schema_is_brought_up_with_its_servers(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with open_store(root) as store:
        store.observe("host:8321:7", "support", "production", "a" * 64, True, "probes passed")
    engine = create_engine(f"sqlite:///{root / 'catalog.sqlite'}", poolclass=NullPool)
    with engine.begin() as connection:
        for table in ("servers", "access_tokens", "audit", "trials", "trial_reports", "drifts", "warmups", "warm_reports"):
            connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    with open_store(root) as store:
        assert [server.server_id for server in store.servers()] == ["host:8321:7"]
