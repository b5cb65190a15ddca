"""Tables of the catalog, as SQLAlchemy sees them; `migrations/` makes them.

Plain SQL that SQLite and PostgreSQL both speak: text, integers, booleans; times are ISO 8601 text in UTC.
"""

from sqlalchemy import Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

REVISION = "0006"
"""Newest migration; a test compares it with the folder."""

metadata = MetaData()

objects = Table("objects", metadata, Column("digest", String(64), primary_key=True), Column("kind", String(16), nullable=False))

parents = Table(
    "parents",
    metadata,
    Column("child", String(64), primary_key=True),
    Column("parent", String(64), primary_key=True),
    Index("parents_by_parent", "parent"),
)

actions = Table(
    "actions",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("at", String(32), nullable=False),
)

releases = Table(
    "releases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False),
    Column("created_at", String(32), nullable=False),
    UniqueConstraint("name", "digest", name="releases_once"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("alias", String(64), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("seq", Integer, nullable=False),
)

history = Table(
    "history",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", String(32), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("who", Text, nullable=False),
    Column("name", String(64)),
    Column("alias", String(64)),
    Column("from_digest", String(64)),
    Column("to_digest", String(64)),
    Column("expect", Text, nullable=False),
    Column("verdict", String(64)),
    Column("reason", Text, nullable=False),
    Column("override", Boolean(create_constraint=False), nullable=False),
    Column("detail", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Index("history_by_name", "name", "alias"),
)

history_head = Table(
    "history_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
)

servers = Table(
    "servers",
    metadata,
    Column("server_id", String(128), primary_key=True),
    Column("since", String(32), nullable=False),
    Column("seen", String(32), nullable=False),
)

observed = Table(
    "observed",
    metadata,
    Column("server_id", String(128), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("alias", String(64), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("ok", Boolean(create_constraint=False), nullable=False),
    Column("detail", Text, nullable=False),
    Column("since", String(32), nullable=False),
    Column("seen", String(32), nullable=False),
)

observations = Table(
    "observations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", String(32), nullable=False),
    Column("server_id", String(128), nullable=False),
    Column("name", String(64), nullable=False),
    Column("alias", String(64), nullable=False),
    Column("digest", String(64)),
    Column("ok", Boolean(create_constraint=False), nullable=False),
    Index("observations_by_alias", "name", "alias"),
)

trials = Table(
    "trials",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("alias", String(64), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("against", String(64), nullable=False),
    Column("share", Float, nullable=False),
    Column("since", String(32), nullable=False),
    Column("until", String(32), nullable=False),
    Column("who", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("baseline", Text, nullable=False),
    Column("seq", Integer, nullable=False),
)

trial_reports = Table(
    "trial_reports",
    metadata,
    Column("server_id", String(128), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("alias", String(64), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("ok", Boolean(create_constraint=False), nullable=False),
    Column("detail", Text, nullable=False),
    Column("counts", Text, nullable=False),
    Column("seen", String(32), nullable=False),
)

drifts = Table(
    "drifts",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("stale", Boolean(create_constraint=False), nullable=False),
    Column("says", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("at", String(32), nullable=False),
)

warmups = Table(
    "warmups",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("until", String(32), nullable=False),
)

warm_reports = Table(
    "warm_reports",
    metadata,
    Column("server_id", String(128), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("ok", Boolean(create_constraint=False), nullable=False),
    Column("detail", Text, nullable=False),
)

access_tokens = Table(
    "access_tokens",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("prefix", String(16), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("models", Text, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("expires_at", String(32), nullable=False),
    Column("revoked_at", String(32)),
    UniqueConstraint("prefix", name="access_tokens_by_prefix"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", String(32), nullable=False),
    Column("server_id", String(128), nullable=False),
    Column("token", String(64), nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("action", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("detail", Text, nullable=False),
)
