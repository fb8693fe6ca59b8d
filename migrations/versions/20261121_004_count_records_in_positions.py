"""How many records a view has read: where offsets have gaps, they don't tell."""

from alembic import op

revision = "20261121_004"
down_revision = "20261121_003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the count. What is there was read from an embedded log, whose offsets are without gaps."""
    op.execute("ALTER TABLE positions ADD COLUMN records INTEGER NOT NULL DEFAULT 0")
    op.execute("UPDATE positions SET records = source_offset + 1")


def downgrade() -> None:
    """Drop it."""
    op.execute("ALTER TABLE positions DROP COLUMN records")
