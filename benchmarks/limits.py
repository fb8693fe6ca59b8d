"""What the same machine could do without us: the same work by hand in one process, and decoding alone.

    by_hand(base, traffic)     # {"per_s": ...}
    decode_only(traffic)

The loop by hand has no HTTP, no second look at what was written, no recovery, no facts and no changelog: it
decodes with the project's decoder, keeps ids in a dictionary, and writes log, three summaries and
processed_generations to SQLite in batches of 4,000, each fsynced, into the project's own tables. It can't be
trusted with money; it shows what a framework and exactness cost.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path

from benchmarks import views
from benchmarks.report import Figures
from benchmarks.traffic import Traffic
from projections import schema
from streams import clock, times
from streams.generation import Generation, decode
from streams.organizations import row_id

BATCH = 4000
ZONE = "UTC"
ROW_IDS_MAX = 131_072
_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "cache_size = -262144",
    "wal_autocheckpoint = 20000",
)
_SUMS = "total_requests, prompt_tokens, completion_tokens, total_tokens, raw_cost_nano, markup_cost_nano"
_ADD = ", ".join(f"{name} = {name} + excluded.{name}" for name in _SUMS.split(", "))
_REST = "unpriced_requests, created_at, updated_at"
_ROWS = {
    "client_daily_usage": "client_org_id, usage_date",
    "client_user_daily_usage": "client_org_id, usage_date, openrouter_user_id, user_id, user_id_ms",
    "client_model_daily_usage": "client_org_id, usage_date, model_name, provider",
}
_PROCESSED = """INSERT INTO processed_generations
    (id, client_org_id, generation_date, processed_at, total_tokens, total_cost_nano) VALUES (?,?,?,?,?,?)"""

Key = tuple[str | int, ...]
_id = lru_cache(maxsize=ROW_IDS_MAX)(row_id)


def decode_only(traffic: Traffic) -> Figures:
    """Each event decoded and checked, and thrown away."""
    started_s = clock.monotonic_s()
    for line in traffic.lines:
        decode(line)
    return {"per_s": len(traffic.lines) / (clock.monotonic_s() - started_s)}


def by_hand(base: Path, traffic: Traffic) -> Figures:
    """The whole loop; its totals must be right too."""
    schema.upgrade(base / "views.db")
    with closing(_open(base / "log.db")) as log, closing(_open(base / "views.db")) as tables:
        log.execute('CREATE TABLE log ("offset" INTEGER PRIMARY KEY, value BLOB NOT NULL)')
        known: dict[str, bytes] = {}
        started_s = clock.monotonic_s()
        for i in range(0, len(traffic.lines), BATCH):
            _take(log, tables, known, traffic.lines[i : i + BATCH])
        took_s = clock.monotonic_s() - started_s
    views.check(base / "views.db", traffic.totals())
    return {"per_s": len(traffic.lines) / took_s}


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _take(
    log: sqlite3.Connection, tables: sqlite3.Connection, known: dict[str, bytes], lines: Sequence[bytes]
) -> None:
    log.execute("BEGIN")
    log.executemany("INSERT INTO log (value) VALUES (?)", [(line,) for line in lines])
    log.execute("COMMIT")
    now_s = clock.now_ms() // 1000
    sums: dict[str, dict[Key, list[int]]] = {name: {} for name in _ROWS}
    processed = []
    for line in lines:
        event = decode(line)
        if event.id in known:
            continue
        known[event.id] = line
        day = times.day_of(event.created_ns or 0, ZONE)
        _fold(sums, event, day)
        processed.append((event.id, event.organization, day, now_s, event.total_tokens, event.cost_nano))
    tables.execute("BEGIN")
    for name, columns in _ROWS.items():
        tables.executemany(
            f"INSERT INTO {name} (id, {columns}, {_SUMS}, {_REST})"
            f" VALUES ({','.join('?' * (len(columns.split(',')) + 10))})"
            f" ON CONFLICT (id) DO UPDATE SET {_ADD}, updated_at = excluded.updated_at",
            [(_id(*map(str, key[:3])), *key, *row, 0, now_s, now_s) for key, row in sums[name].items()],
        )
    tables.executemany(_PROCESSED, processed)
    tables.execute("COMMIT")


def _fold(sums: dict[str, dict[Key, list[int]]], event: Generation, day: str) -> None:
    place = (event.organization, day)
    nano = event.cost_nano or 0
    keys: tuple[Key, ...] = (
        place,
        (*place, event.user, event.user, 0),
        (*place, event.model, event.provider),
    )
    for rows, key in zip(sums.values(), keys, strict=True):
        row = rows.get(key)
        if row is None:
            row = rows[key] = [0, 0, 0, 0, 0, 0]
        row[0] += 1
        row[1] += event.prompt_tokens
        row[2] += event.completion_tokens
        row[3] += event.total_tokens
        row[4] += nano
        row[5] += nano
