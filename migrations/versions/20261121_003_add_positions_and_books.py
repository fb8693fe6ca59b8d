"""genledger's own tables: positions, books, and what names the provider of a model's day."""

from alembic import op

revision = "20261121_003"
down_revision = "20250725_002"
branch_labels = None
depends_on = None

STATEMENTS = (
    """CREATE TABLE positions (
        projection TEXT NOT NULL,
        "partition" INTEGER NOT NULL,
        usage_offset INTEGER NOT NULL,
        source_offset INTEGER NOT NULL,
        digest TEXT NOT NULL,
        version INTEGER NOT NULL,
        PRIMARY KEY (projection, "partition")
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE books (
        "partition" INTEGER NOT NULL,
        fate TEXT NOT NULL,
        records INTEGER NOT NULL,
        PRIMARY KEY ("partition", fate)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE model_daily_providers (
        client_org_id TEXT NOT NULL,
        usage_date TEXT NOT NULL,
        model_name TEXT NOT NULL,
        provider TEXT NOT NULL,
        total_requests INTEGER NOT NULL,
        raw_cost_nano INTEGER NOT NULL,
        PRIMARY KEY (client_org_id, usage_date, model_name, provider)
    ) STRICT, WITHOUT ROWID""",
)


def upgrade() -> None:
    """Make the tables."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop them: every projection then starts from the log's beginning."""
    for table in ("model_daily_providers", "books", "positions"):
        op.execute(f"DROP TABLE {table}")
