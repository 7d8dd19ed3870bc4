"""Which tables does a server keep, and of which types are their columns?

Nothing here can be made again from elsewhere: no table is ever dropped. Any change gets a new `SCHEMA_VERSION` and
a migration from the one before. Times are seconds since 1970. Names begin with `server_`, so that one PostgreSQL
database may hold a server's tables and an index of runs.
"""

from sqlalchemy import Boolean, Column, Double, ForeignKey, Index, Integer, MetaData, Table, Text
from sqlalchemy.types import BigInteger

from crucible.store.schema import Schema
from crucible.store.tables import Json, Plain

SCHEMA_VERSION = 1
METADATA = MetaData()

SCHEMA = Table("server_schema", METADATA, Column("version", Integer, primary_key=True))

KEYS = Table(
    "server_keys",
    METADATA,
    Column("key_id", Plain, primary_key=True),
    Column("name", Plain, nullable=False, unique=True),
    Column("digest", Text, nullable=False),  # SHA-256 of the secret, in hex; the secret itself is nowhere
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
)

SESSIONS = Table(
    "server_sessions",
    METADATA,
    Column("session_id", Plain, primary_key=True),
    Column("owner", Plain, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("tags", Json, nullable=False),
    Column("user_metadata", Json, nullable=False),
    Column("sdk_version", Plain, nullable=False),
    Column("project_id", Plain),
    Column("display_name", Plain),
    Column("ended_at", Double),
    Column("end_reason", Text, nullable=False),
    Column("end_detail", Plain, nullable=False),
    Index("server_sessions_by_owner", "owner", "created_at"),
)

RUNS = Table(
    "server_runs",
    METADATA,
    Column("run_id", Plain, primary_key=True),
    Column("owner", Plain, nullable=False),
    Column("session_id", Plain, ForeignKey("server_sessions.session_id"), index=True),
    Column("base_model", Plain, nullable=False),
    Column("reference", Plain, nullable=False),
    Column("lora", Json, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("last_request_at", Double, nullable=False),
    Column("user_metadata", Json, nullable=False),
    Column("project_id", Plain),
    Index("server_runs_by_owner", "owner", "last_request_at"),
)

SAMPLERS = Table(
    "server_samplers",
    METADATA,
    Column("sampler_id", Plain, primary_key=True),
    Column("owner", Plain, nullable=False),
    Column("session_id", Plain, ForeignKey("server_sessions.session_id"), nullable=False, index=True),
    Column("base_model", Plain, nullable=False),
    Column("model_path", Plain),
    Column("created_at", Double, nullable=False),
)

CHECKPOINTS = Table(
    "server_checkpoints",
    METADATA,
    Column("run_id", Plain, ForeignKey("server_runs.run_id"), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("name", Plain, primary_key=True),
    Column("owner", Plain, nullable=False),
    Column("engine_path", Plain, nullable=False, index=True),
    Column("digest", Text, nullable=False),
    Column("policy_version", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, index=True),
    Column("public", Boolean, nullable=False),
    Column("optimizer", Boolean, nullable=False),
    Column("user_metadata", Json, nullable=False),
    Index("server_checkpoints_by_owner", "owner", "created_at"),
)

SERVER = Schema(metadata=METADATA, version_table=SCHEMA, version=SCHEMA_VERSION, refillable=False)
