"""usage_points: each call as a point in time, while raw points are kept in SQLite."""

from alembic import op

revision = "20261122_006"
down_revision = "20261121_005"
branch_labels = None
depends_on = None

# A cost or latency that nobody knows is NULL, not 0. One index serves days and spans of time alike: each
# more would cost every generation.
STATEMENTS = (
    """CREATE TABLE usage_points (
        id TEXT NOT NULL PRIMARY KEY,
        client_org_id TEXT NOT NULL,
        usage_date TEXT NOT NULL,
        time_ns INTEGER NOT NULL,
        model_name TEXT NOT NULL,
        provider TEXT NOT NULL,
        source TEXT NOT NULL,
        user_id TEXT NOT NULL,
        openrouter_user_id TEXT NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        total_tokens INTEGER NOT NULL,
        raw_cost REAL GENERATED ALWAYS AS (raw_cost_nano / 1e9) VIRTUAL,
        markup_cost REAL GENERATED ALWAYS AS (markup_cost_nano / 1e9) VIRTUAL,
        raw_cost_nano INTEGER,
        markup_cost_nano INTEGER,
        latency_ms INTEGER,
        logged_ms INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX idx_points_client_date ON usage_points (client_org_id, usage_date, time_ns)",
)


def upgrade() -> None:
    """Make the table. The view fills it from the log's beginning."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop it, and where its view stood: made again it begins anew."""
    op.execute("DROP TABLE usage_points")
    op.execute("DELETE FROM positions WHERE projection = 'points'")
