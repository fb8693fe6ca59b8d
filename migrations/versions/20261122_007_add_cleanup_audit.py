"""What each run of the retention job does, by partition and organisation, and how many ids are known."""

from alembic import op

revision = "20261122_007"
down_revision = "20261122_006"
branch_labels = None
depends_on = None

# A run's row of processed_generation_cleanup_log is made of its pieces. `run` of a partition is the one that
# runs there now, '' for none.
STATEMENTS = (
    """CREATE TABLE cleanup_partitions (
        "partition" INTEGER NOT NULL PRIMARY KEY,
        known_ids INTEGER NOT NULL,
        run TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE cleanup_pieces (
        run TEXT NOT NULL,
        "partition" INTEGER NOT NULL,
        started_ms INTEGER NOT NULL,
        ended_ms INTEGER,
        cutoff_ns INTEGER NOT NULL,
        horizon_ns INTEGER NOT NULL,
        days INTEGER NOT NULL,
        partitions INTEGER NOT NULL,
        records_before INTEGER NOT NULL,
        records_deleted INTEGER NOT NULL,
        tokens_removed INTEGER NOT NULL,
        cost_removed_nano INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        error TEXT NOT NULL,
        PRIMARY KEY (run, "partition")
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE cleanup_organizations (
        run TEXT NOT NULL,
        client_org_id TEXT NOT NULL,
        records_deleted INTEGER NOT NULL,
        tokens_removed INTEGER NOT NULL,
        cost_removed_nano INTEGER NOT NULL,
        oldest_day TEXT NOT NULL,
        newest_day TEXT NOT NULL,
        PRIMARY KEY (run, client_org_id)
    ) STRICT, WITHOUT ROWID""",
)


def upgrade() -> None:
    """Make the tables. The view fills them from the log's beginning."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop them, with the rows made of them, and where their view stood: made again it begins anew."""
    for table in ("cleanup_partitions", "cleanup_pieces", "cleanup_organizations"):
        op.execute(f"DROP TABLE {table}")
    op.execute("DELETE FROM processed_generation_cleanup_log")
    op.execute("DELETE FROM positions WHERE projection = 'cleanup'")
