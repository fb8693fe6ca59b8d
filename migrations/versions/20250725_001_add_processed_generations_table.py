"""processed_generations: one row for each generation id that was taken."""

from alembic import op

revision = "20250725_001"
down_revision = "20250725_000"
branch_labels = None
depends_on = None

# A cost that nobody knows is NULL, not 0.
STATEMENTS = (
    """CREATE TABLE processed_generations (
        id TEXT NOT NULL PRIMARY KEY,
        client_org_id TEXT NOT NULL,
        generation_date TEXT NOT NULL,
        processed_at INTEGER NOT NULL,
        total_cost REAL GENERATED ALWAYS AS (total_cost_nano / 1e9) VIRTUAL,
        total_tokens INTEGER NOT NULL,
        total_cost_nano INTEGER
    ) STRICT""",
    "CREATE INDEX idx_processed_client_date ON processed_generations (client_org_id, generation_date)",
    "CREATE INDEX idx_processed_at ON processed_generations (processed_at)",
    "CREATE INDEX idx_processed_generation_id ON processed_generations (id)",
)


def upgrade() -> None:
    """Make the table and its three indexes."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop it; its indexes go with it."""
    op.execute("DROP TABLE processed_generations")
