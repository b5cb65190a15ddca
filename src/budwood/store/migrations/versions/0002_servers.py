"""Which servers are there at all, whether or not they serve anything yet."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Make the table; servers that have reported under the older schema are entered with what they said last."""
    op.create_table(
        "servers",
        sa.Column("server_id", sa.String(128), primary_key=True),
        sa.Column("since", sa.String(32), nullable=False),
        sa.Column("seen", sa.String(32), nullable=False),
    )
    op.execute(
        "INSERT INTO servers (server_id, since, seen) SELECT server_id, MIN(since), MAX(seen) FROM observed GROUP BY server_id"
    )
