"""Base tables: organisations, users, live counters and the three daily summaries.

Money is integer nano-dollars; the REAL columns that older scripts read are generated from it.
"""

from alembic import op

revision = "20250725_000"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    """CREATE TABLE client_organizations (
        id TEXT NOT NULL PRIMARY KEY,
        name TEXT NOT NULL,
        openrouter_api_key TEXT,
        openrouter_key_hash TEXT,
        markup_rate REAL GENERATED ALWAYS AS (CAST(markup_rate_text AS REAL)) VIRTUAL,
        monthly_limit REAL GENERATED ALWAYS AS (CAST(monthly_limit_text AS REAL)) VIRTUAL,
        billing_email TEXT,
        is_active INTEGER NOT NULL DEFAULT 1,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        markup_rate_text TEXT,
        monthly_limit_text TEXT,
        timezone TEXT,
        has_settings INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE user_client_mapping (
        id TEXT NOT NULL PRIMARY KEY,
        user_id TEXT NOT NULL,
        client_org_id TEXT NOT NULL,
        openrouter_user_id TEXT NOT NULL,
        is_active INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    # Quoted: without quotes SQLite takes current_date for today's date.
    """CREATE TABLE client_live_counters (
        client_org_id TEXT NOT NULL PRIMARY KEY,
        "current_date" TEXT NOT NULL,
        today_tokens INTEGER NOT NULL DEFAULT 0,
        today_requests INTEGER NOT NULL DEFAULT 0,
        today_raw_cost REAL GENERATED ALWAYS AS (today_raw_cost_nano / 1e9) VIRTUAL,
        today_markup_cost REAL GENERATED ALWAYS AS (today_markup_cost_nano / 1e9) VIRTUAL,
        last_updated INTEGER GENERATED ALWAYS AS (last_ms / 1000) VIRTUAL,
        today_raw_cost_nano INTEGER NOT NULL DEFAULT 0,
        today_markup_cost_nano INTEGER NOT NULL DEFAULT 0,
        today_unpriced_requests INTEGER NOT NULL DEFAULT 0,
        timezone TEXT NOT NULL,
        last_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE client_daily_usage (
        id TEXT NOT NULL PRIMARY KEY,
        client_org_id TEXT NOT NULL,
        usage_date TEXT NOT NULL,
        total_tokens INTEGER NOT NULL,
        total_requests INTEGER NOT NULL,
        raw_cost REAL GENERATED ALWAYS AS (raw_cost_nano / 1e9) VIRTUAL,
        markup_cost REAL GENERATED ALWAYS AS (markup_cost_nano / 1e9) VIRTUAL,
        primary_model TEXT,
        unique_users INTEGER NOT NULL DEFAULT 0,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        raw_cost_nano INTEGER NOT NULL,
        markup_cost_nano INTEGER NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        unpriced_requests INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE client_user_daily_usage (
        id TEXT NOT NULL PRIMARY KEY,
        client_org_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        openrouter_user_id TEXT NOT NULL,
        usage_date TEXT NOT NULL,
        total_tokens INTEGER NOT NULL,
        total_requests INTEGER NOT NULL,
        raw_cost REAL GENERATED ALWAYS AS (raw_cost_nano / 1e9) VIRTUAL,
        markup_cost REAL GENERATED ALWAYS AS (markup_cost_nano / 1e9) VIRTUAL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        raw_cost_nano INTEGER NOT NULL,
        markup_cost_nano INTEGER NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        unpriced_requests INTEGER NOT NULL,
        user_id_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE client_model_daily_usage (
        id TEXT NOT NULL PRIMARY KEY,
        client_org_id TEXT NOT NULL,
        model_name TEXT NOT NULL,
        usage_date TEXT NOT NULL,
        total_tokens INTEGER NOT NULL,
        total_requests INTEGER NOT NULL,
        raw_cost REAL GENERATED ALWAYS AS (raw_cost_nano / 1e9) VIRTUAL,
        markup_cost REAL GENERATED ALWAYS AS (markup_cost_nano / 1e9) VIRTUAL,
        provider TEXT,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        raw_cost_nano INTEGER NOT NULL,
        markup_cost_nano INTEGER NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        unpriced_requests INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
)

# One organisation's days, then one day of all; none is UNIQUE, for an id is a hash of the same key. A day's
# models stand in the order that names the primary one.
INDEXES = (
    "CREATE INDEX idx_mapping_client ON user_client_mapping (client_org_id, openrouter_user_id)",
    "CREATE INDEX idx_daily_client_date ON client_daily_usage (client_org_id, usage_date)",
    "CREATE INDEX idx_daily_date ON client_daily_usage (usage_date, client_org_id)",
    """CREATE INDEX idx_user_daily_client_date ON client_user_daily_usage
        (client_org_id, usage_date, openrouter_user_id)""",
    """CREATE INDEX idx_user_daily_date ON client_user_daily_usage
        (usage_date, client_org_id, openrouter_user_id)""",
    """CREATE INDEX idx_model_daily_rank ON client_model_daily_usage
        (client_org_id, usage_date, total_requests DESC, raw_cost_nano DESC, model_name)""",
    "CREATE INDEX idx_model_daily_date ON client_model_daily_usage (usage_date, client_org_id, model_name)",
)


def upgrade() -> None:
    """Make the tables and their indexes."""
    for statement in (*TABLES, *INDEXES):
        op.execute(statement)


def downgrade() -> None:
    """Drop them; their indexes go with them."""
    for table in (
        "client_model_daily_usage",
        "client_user_daily_usage",
        "client_daily_usage",
        "client_live_counters",
        "user_client_mapping",
        "client_organizations",
    ):
        op.execute(f"DROP TABLE {table}")
