"""Alembic migrations of the catalog, run by `Catalog` when the schema is absent or older."""
