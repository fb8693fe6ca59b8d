"""Generation ids that two organisations have claimed."""

from alembic import op

revision = "20261121_005"
down_revision = "20261121_004"
branch_labels = None
depends_on = None

STATEMENTS = (
    """CREATE TABLE generation_conflicts (
        id TEXT NOT NULL PRIMARY KEY,
        generation_id TEXT NOT NULL,
        holder_org_id TEXT NOT NULL,
        claimant_org_id TEXT NOT NULL,
        times INTEGER NOT NULL,
        taken_over INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX idx_conflicts_generation ON generation_conflicts (generation_id)",
    "CREATE INDEX idx_conflicts_holder ON generation_conflicts (holder_org_id, updated_at)",
    "CREATE INDEX idx_conflicts_claimant ON generation_conflicts (claimant_org_id, updated_at)",
    "CREATE INDEX idx_conflicts_updated ON generation_conflicts (updated_at)",
)


def upgrade() -> None:
    """Make the table. The view fills it from the log's beginning."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop it, and where its view stood: made again it begins anew."""
    op.execute("DROP TABLE generation_conflicts")
    op.execute("DELETE FROM positions WHERE projection = 'conflicts'")
