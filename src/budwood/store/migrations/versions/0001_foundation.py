"""Objects index, actions, releases, aliases, history and what servers observe."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

DIGEST = sa.String(64)
NAME = sa.String(64)
TIME = sa.String(32)
FLAG = sa.Boolean(create_constraint=False)


def upgrade() -> None:
    """Make the tables."""
    _objects()
    _names()
    _history()
    _observed()


def _objects() -> None:
    op.create_table("objects", sa.Column("digest", DIGEST, primary_key=True), sa.Column("kind", sa.String(16), nullable=False))
    op.create_table("parents", sa.Column("child", DIGEST, primary_key=True), sa.Column("parent", DIGEST, primary_key=True))
    op.create_index("parents_by_parent", "parents", ["parent"])
    op.create_table(
        "actions",
        sa.Column("key", DIGEST, primary_key=True),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("at", TIME, nullable=False),
    )


def _names() -> None:
    op.create_table(
        "releases",
        sa.Column("name", NAME, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.UniqueConstraint("name", "digest", name="releases_once"),
    )
    op.create_table(
        "aliases",
        sa.Column("name", NAME, primary_key=True),
        sa.Column("alias", NAME, primary_key=True),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
    )


def _history() -> None:
    op.create_table(
        "history",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("name", NAME),
        sa.Column("alias", NAME),
        sa.Column("from_digest", DIGEST),
        sa.Column("to_digest", DIGEST),
        sa.Column("expect", sa.Text, nullable=False),
        sa.Column("verdict", DIGEST),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("override", FLAG, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("previous", DIGEST, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
    )
    op.create_index("history_by_name", "history", ["name", "alias"])
    head = op.create_table(
        "history_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
    )
    op.bulk_insert(head, [{"id": 1, "seq": 0, "digest": "0" * 64}])


def _observed() -> None:
    op.create_table(
        "observed",
        sa.Column("server_id", sa.String(128), primary_key=True),
        sa.Column("name", NAME, primary_key=True),
        sa.Column("alias", NAME, primary_key=True),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("ok", FLAG, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("seen", TIME, nullable=False),
    )
    op.create_table(
        "observations",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", TIME, nullable=False),
        sa.Column("server_id", sa.String(128), nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("alias", NAME, nullable=False),
        sa.Column("digest", DIGEST),
        sa.Column("ok", FLAG, nullable=False),
    )
    op.create_index("observations_by_alias", "observations", ["name", "alias"])
