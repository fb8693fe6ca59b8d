"""processed_generation_cleanup_log: one row for each run of the retention job."""

from alembic import op

revision = "20250725_002"
down_revision = "20250725_001"
branch_labels = None
depends_on = None

STATEMENTS = (
    """CREATE TABLE processed_generation_cleanup_log (
        id TEXT NOT NULL PRIMARY KEY,
        cleanup_date TEXT NOT NULL,
        cutoff_date TEXT NOT NULL,
        days_retained INTEGER NOT NULL,
        records_before INTEGER NOT NULL,
        records_deleted INTEGER NOT NULL,
        records_remaining INTEGER NOT NULL,
        old_tokens_removed INTEGER NOT NULL,
        old_cost_removed REAL GENERATED ALWAYS AS (old_cost_removed_nano / 1e9) VIRTUAL,
        storage_saved_kb REAL NOT NULL,
        cleanup_duration_seconds REAL NOT NULL,
        success INTEGER NOT NULL,
        error_message TEXT,
        created_at INTEGER NOT NULL,
        old_cost_removed_nano INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX idx_cleanup_date_success ON processed_generation_cleanup_log (cleanup_date, success)",
)


def upgrade() -> None:
    """Make the table and its index."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop it; its index goes with it."""
    op.execute("DROP TABLE processed_generation_cleanup_log")
