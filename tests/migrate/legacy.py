"""A legacy database as the seeds describe it, and an independent model of what must come of it.

    made = make(path, organizations=3, users=4, days=5)
    made.totals["day"]["client-0", "2025-01-01", ""]     # requests, tokens, nano-dollars, marked up

The money is REAL and was added up call by call, as that system did: 0.1 + 0.2 and worse. The model reads the
file by `sqlite3` and rounds by `decimal`; it shares nothing with the project.
"""

import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

DDL = """
CREATE TABLE client_organizations (id TEXT PRIMARY KEY, name TEXT NOT NULL, openrouter_api_key TEXT,
    openrouter_key_hash TEXT, markup_rate REAL NOT NULL, monthly_limit REAL, billing_email TEXT,
    is_active INTEGER NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL);
CREATE TABLE user_client_mapping (id TEXT PRIMARY KEY, user_id TEXT NOT NULL, client_org_id TEXT NOT NULL,
    openrouter_user_id TEXT NOT NULL, is_active INTEGER NOT NULL, created_at INTEGER, updated_at INTEGER);
CREATE TABLE client_live_counters (client_org_id TEXT PRIMARY KEY, "current_date" TEXT, today_tokens INTEGER,
    today_requests INTEGER, today_raw_cost REAL, today_markup_cost REAL, last_updated INTEGER);
CREATE TABLE client_daily_usage (id TEXT PRIMARY KEY, client_org_id TEXT NOT NULL, usage_date TEXT NOT NULL,
    total_tokens INTEGER, total_requests INTEGER, raw_cost REAL, markup_cost REAL, primary_model TEXT,
    unique_users INTEGER, created_at INTEGER, updated_at INTEGER);
CREATE TABLE client_user_daily_usage (id TEXT PRIMARY KEY, client_org_id TEXT NOT NULL, user_id TEXT NOT NULL,
    openrouter_user_id TEXT NOT NULL, usage_date TEXT NOT NULL, total_tokens INTEGER, total_requests INTEGER,
    raw_cost REAL, markup_cost REAL, created_at INTEGER, updated_at INTEGER);
CREATE TABLE client_model_daily_usage (id TEXT PRIMARY KEY, client_org_id TEXT NOT NULL,
    model_name TEXT NOT NULL, usage_date TEXT NOT NULL, total_tokens INTEGER, total_requests INTEGER,
    raw_cost REAL, markup_cost REAL, provider TEXT, created_at INTEGER, updated_at INTEGER);
CREATE TABLE processed_generations (id TEXT PRIMARY KEY, client_org_id TEXT NOT NULL,
    generation_date TEXT NOT NULL, processed_at INTEGER NOT NULL, total_cost REAL NOT NULL,
    total_tokens INTEGER NOT NULL);
CREATE INDEX idx_processed_client_date ON processed_generations (client_org_id, generation_date);
CREATE TABLE processed_generation_cleanup_log (id INTEGER PRIMARY KEY, cleanup_date TEXT, cutoff_date TEXT,
    days_retained INTEGER, records_before INTEGER, records_deleted INTEGER, records_remaining INTEGER,
    old_tokens_removed INTEGER, old_cost_removed REAL, storage_saved_kb REAL, cleanup_duration_seconds REAL,
    success INTEGER, error_message TEXT, created_at INTEGER);
"""
FIRST_DAY = date(2025, 1, 1)
MODELS = ("anthropic/claude-sonnet-4", "openai/gpt-5", "meta-llama/llama-4", "モデル/é")
PRICES = (0.1, 0.2, 0.3, 0.0123, 1e-7, 0.000000001, 0.07)
SECRET = "sk-or-v1-never-to-be-seen"
MARKUPS = (1.3, 1.1 + 0.2, 1.5)

Figures = tuple[int, int, int, int]
Name = tuple[str, str, str]


@dataclass
class Call:
    """One call, as its provider knows it. The legacy system kept less of it."""

    id: str
    organization: str
    user: str
    model: str
    day: str
    tokens: int
    cost: float


@dataclass
class Legacy:
    """The file, and what it says."""

    path: Path
    first_day: str
    last_day: str
    calls: list[Call] = field(default_factory=list)  # those whose ids it kept

    @property
    def totals(self) -> dict[str, dict[Name, Figures]]:
        """What must count here, by margin: read from the file itself."""
        tables = {
            "day": ("client_daily_usage", "''"),
            "user": ("client_user_daily_usage", "openrouter_user_id"),
            "model": ("client_model_daily_usage", "model_name"),
        }
        with closing(sqlite3.connect(self.path)) as connection:
            return {
                margin: {
                    (organization, day, name): (requests, tokens, nano(raw), nano(markup))
                    for organization, day, name, requests, tokens, raw, markup in connection.execute(
                        f"SELECT client_org_id, usage_date, {name}, total_requests, total_tokens, raw_cost,"
                        f" markup_cost FROM {table} WHERE total_requests > 0"
                    )
                }
                for margin, (table, name) in tables.items()
            }

    @property
    def ids(self) -> dict[str, tuple[str, str, int, int]]:
        """What must be known here: organisation, day, nano-dollars and tokens of each id."""
        sql = "SELECT id, client_org_id, generation_date, total_cost, total_tokens FROM processed_generations"
        with closing(sqlite3.connect(self.path)) as connection:
            return {
                id: (organization, day, nano(cost), tokens)
                for id, organization, day, cost, tokens in connection.execute(sql)
            }

    def change(self, sql: str) -> None:
        """Change the file."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.executescript(sql)


def nano(real: float) -> int:
    """The model's own rounding."""
    return int(Decimal(repr(real)).scaleb(9).quantize(Decimal(1), ROUND_HALF_EVEN))


def make(
    path: Path,
    *,
    organizations: int,
    users: int,
    days: int,
    name: str = "client",
    seed: int = 1,
    kept_days: int = 90,
) -> Legacy:
    """Write a legacy database: each user of each organisation makes some calls every day."""
    chance = random.Random(seed)
    last = FIRST_DAY + timedelta(days=days - 1)
    made = Legacy(path, FIRST_DAY.isoformat(), last.isoformat())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(DDL)
        for number in range(organizations):
            _write_people(connection, name, number, users)
        for offset in range(days):
            day = FIRST_DAY + timedelta(days=offset)
            for number in range(organizations):
                calls = _calls(chance, f"{name}-{number}", day.isoformat(), users)
                _write_day(connection, calls, MARKUPS[number % len(MARKUPS)])
                if (last - day).days < kept_days:
                    made.calls += calls
                    _write_ids(connection, calls)
    return made


def _write_people(connection: sqlite3.Connection, name: str, number: int, users: int) -> None:
    id = f"{name}-{number}"
    values = (
        id,
        f"Client {number}",
        SECRET,
        "hash",
        MARKUPS[number % len(MARKUPS)],
        100.5,
        "a@example.com",
        1,
    )
    connection.execute("INSERT INTO client_organizations VALUES (?,?,?,?,?,?,?,?,1,1)", values)
    connection.executemany(
        "INSERT INTO user_client_mapping VALUES (?,?,?,?,1,1,1)",
        [(f"{id}-{n}", f"person-{n}", id, f"u-{n}") for n in range(users)],
    )


def _calls(chance: random.Random, organization: str, day: str, users: int) -> list[Call]:
    return [
        Call(
            f"gen-{day}-{organization}-{user}-{n}",
            organization,
            f"u-{user}",
            chance.choice(MODELS),
            day,
            chance.randrange(1, 5000),
            chance.choice(PRICES),
        )
        for user in range(users)
        for n in range(chance.randrange(3))
    ]


def _write_day(connection: sqlite3.Connection, calls: list[Call], markup: float) -> None:
    """Added up in floats, one call after another."""
    if not calls:
        return
    organization, day = calls[0].organization, calls[0].day
    sums: dict[tuple[str, str], list[float]] = {}
    for call in calls:
        for key in (("day", ""), ("user", call.user), ("model", call.model)):
            row = sums.setdefault(key, [0, 0, 0.0, 0.0])
            row[0] += call.tokens
            row[1] += 1
            row[2] += call.cost
            row[3] += call.cost * markup
    for (margin, name), (tokens, requests, raw, marked) in sums.items():
        id = f"{organization}:{day}:{margin}:{name}"
        figures = (int(tokens), int(requests), raw, marked)
        if margin == "day":
            sql = "INSERT INTO client_daily_usage VALUES (?,?,?,?,?,?,?,NULL,NULL,1,1)"
            connection.execute(sql, (id, organization, day, *figures))
        elif margin == "user":
            sql = "INSERT INTO client_user_daily_usage VALUES (?,?,?,?,?,?,?,?,?,1,1)"
            person = name.replace("u-", "person-")
            connection.execute(sql, (id, organization, person, name, day, *figures))
        else:
            sql = "INSERT INTO client_model_daily_usage VALUES (?,?,?,?,?,?,?,?,?,1,1)"
            connection.execute(sql, (id, organization, name, day, *figures, name.partition("/")[0]))


def _write_ids(connection: sqlite3.Connection, calls: list[Call]) -> None:
    connection.executemany(
        "INSERT INTO processed_generations VALUES (?,?,?,1,?,?)",
        [(call.id, call.organization, call.day, call.cost, call.tokens) for call in calls],
    )
