"""Releases that servers are asked to have ready before an alias moves to them, and what they say of it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision: str | None = "0005"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "warmups",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("until", sa.String(32), nullable=False),
    )
    op.create_table(
        "warm_reports",
        sa.Column("server_id", sa.String(128), primary_key=True),
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("ok", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
    )
