"""The summaries' rows: differences added to what is there, then what depends on them, only where touched.

Each `yield` ends a bounded piece of work, after which others may run; all pieces are one transaction.
unique_users moves when a user's requests leave or reach zero; primary_model and provider are read off an
order that the rows already stand in. So a batch costs what it touches, not what the day holds.
"""

import json
import sqlite3
from collections.abc import Generator, Iterable, Iterator
from functools import lru_cache

from projections.stores.pieces import pieces
from projections.summaries import Changes, Totals
from streams.organizations import row_id

ROW_IDS_MAX = 131_072

_COLUMNS = (
    "total_requests, prompt_tokens, completion_tokens, total_tokens,"
    " raw_cost_nano, markup_cost_nano, unpriced_requests, created_at, updated_at"
)
_ADD = """
    total_requests = total_requests + excluded.total_requests,
    prompt_tokens = prompt_tokens + excluded.prompt_tokens,
    completion_tokens = completion_tokens + excluded.completion_tokens,
    total_tokens = total_tokens + excluded.total_tokens,
    raw_cost_nano = raw_cost_nano + excluded.raw_cost_nano,
    markup_cost_nano = markup_cost_nano + excluded.markup_cost_nano,
    unpriced_requests = unpriced_requests + excluded.unpriced_requests,
    created_at = min(created_at, excluded.created_at),
    updated_at = max(updated_at, excluded.updated_at)"""

_DAY = f"""INSERT INTO client_daily_usage (id, client_org_id, usage_date, {_COLUMNS})
    VALUES (?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET {_ADD}"""
_MODEL = f"""INSERT INTO client_model_daily_usage (id, client_org_id, usage_date, model_name, {_COLUMNS})
    VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET {_ADD}"""
_USER = f"""INSERT INTO client_user_daily_usage
    (id, client_org_id, usage_date, openrouter_user_id, {_COLUMNS}, user_id, user_id_ms)
    VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET {_ADD},
    user_id = CASE WHEN (excluded.user_id_ms, excluded.user_id) > (user_id_ms, user_id)
        THEN excluded.user_id ELSE user_id END,
    user_id_ms = max(user_id_ms, excluded.user_id_ms)"""
_PROVIDER = """INSERT INTO model_daily_providers
    (client_org_id, usage_date, model_name, provider, total_requests, raw_cost_nano)
    VALUES (?,?,?,?,?,?) ON CONFLICT DO UPDATE SET
    total_requests = total_requests + excluded.total_requests,
    raw_cost_nano = raw_cost_nano + excluded.raw_cost_nano"""
_NAME_PROVIDER = """UPDATE client_model_daily_usage SET provider = (
        SELECT p.provider FROM model_daily_providers p
        WHERE p.client_org_id = ? AND p.usage_date = ? AND p.model_name = ? AND p.total_requests > 0
        ORDER BY p.total_requests DESC, p.raw_cost_nano DESC, p.provider LIMIT 1)
    WHERE id = ?"""
_NAME_MODEL = """UPDATE client_daily_usage SET primary_model = (
        SELECT m.model_name FROM client_model_daily_usage m
        WHERE m.client_org_id = ? AND m.usage_date = ? AND m.total_requests > 0
        ORDER BY m.total_requests DESC, m.raw_cost_nano DESC, m.model_name LIMIT 1)
    WHERE id = ?"""
_COUNT_USERS = """UPDATE client_daily_usage SET unique_users = (
        SELECT count(*) FROM client_user_daily_usage u WHERE u.client_org_id = ? AND u.usage_date = ?
        AND u.openrouter_user_id <> '' AND u.total_requests > 0)
    WHERE id = ?"""
_MOVE_USERS = "UPDATE client_daily_usage SET unique_users = unique_users + ? WHERE id = ?"
_LIVE = """INSERT INTO client_live_counters (client_org_id, last_ms, "current_date", timezone)
    VALUES (?,?,?,?) ON CONFLICT (client_org_id) DO UPDATE SET
    last_ms = excluded.last_ms, "current_date" = excluded."current_date", timezone = excluded.timezone
    WHERE (excluded.last_ms, excluded."current_date", excluded.timezone)
        > (last_ms, "current_date", timezone)"""
_COPY_LIVE = """UPDATE client_live_counters SET
    (today_requests, today_tokens, today_raw_cost_nano, today_markup_cost_nano, today_unpriced_requests) =
    (SELECT ifnull(max(d.total_requests), 0), ifnull(max(d.total_tokens), 0), ifnull(max(d.raw_cost_nano), 0),
        ifnull(max(d.markup_cost_nano), 0), ifnull(max(d.unpriced_requests), 0)
        FROM client_daily_usage d
        WHERE d.client_org_id = client_live_counters.client_org_id
        AND d.usage_date = client_live_counters."current_date")
    WHERE client_org_id = ?"""
# What was first seen here and has no settings yet. With settings, only the time of its making can move.
_ORGANIZATION = """INSERT INTO client_organizations (id, name, created_at, updated_at) VALUES (?1, ?1, ?2, ?2)
    ON CONFLICT (id) DO UPDATE SET created_at = min(created_at, excluded.created_at),
    updated_at = CASE WHEN has_settings THEN updated_at ELSE min(updated_at, excluded.updated_at) END
    WHERE excluded.created_at < created_at"""
_BOOKS = """INSERT INTO books ("partition", fate, records) VALUES (?,?,?)
    ON CONFLICT DO UPDATE SET records = records + excluded.records"""


def write(connection: sqlite3.Connection, partition: int, changes: Changes) -> Iterator[None]:
    """Bring the rows forward, in bounded pieces of the caller's transaction."""
    connection.executemany(_BOOKS, [(partition, fate, n) for fate, n in changes.books.items()])
    connection.executemany(_ORGANIZATION, list(changes.organizations.items()))
    new_days = yield from _write_days(connection, changes)
    crossed = yield from _write_users(connection, changes)
    yield from _write_models(connection, changes)
    yield from _name_models(connection, changes)
    yield from _count_users(connection, new_days, crossed)
    yield from _write_live(connection, changes)


def _values(totals: Totals) -> tuple[int, ...]:
    return (
        totals.requests,
        totals.prompt_tokens,
        totals.completion_tokens,
        totals.total_tokens,
        totals.raw_nano,
        totals.markup_nano,
        totals.unpriced,
        totals.first_s,
        totals.last_s,
    )


def _write_days(
    connection: sqlite3.Connection, changes: Changes
) -> Generator[None, None, set[tuple[str, str]]]:
    new: set[tuple[str, str]] = set()
    for piece in pieces(changes.days.items()):
        old = _known(connection, "client_daily_usage", (_id(*key) for key, _ in piece))
        new.update(key for key, _ in piece if _id(*key) not in old)
        connection.executemany(_DAY, [(_id(*key), *key, *_values(totals)) for key, totals in piece])
        yield
    return new


def _write_users(
    connection: sqlite3.Connection, changes: Changes
) -> Generator[None, None, dict[tuple[str, str], int]]:
    crossed: dict[tuple[str, str], int] = {}
    for piece in pieces(changes.users.items()):
        old = _known(connection, "client_user_daily_usage", (_id(*key) for key, _ in piece))
        rows = []
        for key, totals in piece:
            id = _id(*key)
            before = old.get(id, 0)
            change = (before + totals.requests > 0) - (before > 0)
            if change and key[2]:
                crossed[key[:2]] = crossed.get(key[:2], 0) + change
            rows.append((id, *key, *_values(totals), totals.user_id, totals.user_id_ms))
        connection.executemany(_USER, rows)
        yield
    return crossed


def _write_models(connection: sqlite3.Connection, changes: Changes) -> Iterator[None]:
    for piece in pieces(changes.models.items()):
        connection.executemany(_MODEL, [(_id(*key), *key, *_values(totals)) for key, totals in piece])
        yield
    for providers in pieces(changes.providers.items()):
        connection.executemany(_PROVIDER, [(*key, *sums) for key, sums in providers])
        yield
    for piece in pieces(changes.models.items()):
        connection.executemany(_NAME_PROVIDER, [(*key, _id(*key)) for key, _ in piece])
        yield


def _name_models(connection: sqlite3.Connection, changes: Changes) -> Iterator[None]:
    days = set(changes.days)
    days.update(key[:2] for key in changes.models)
    for piece in pieces(days):
        connection.executemany(_NAME_MODEL, [(*key, _id(*key)) for key in piece])
        yield


def _count_users(
    connection: sqlite3.Connection, new: set[tuple[str, str]], crossed: dict[tuple[str, str], int]
) -> Iterator[None]:
    # A new day may find users of an opening balance, which stood there before it.
    for days in pieces(new):
        connection.executemany(_COUNT_USERS, [(*key, _id(*key)) for key in days])
        yield
    for piece in pieces(crossed.items()):
        connection.executemany(_MOVE_USERS, [(change, _id(*key)) for key, change in piece if key not in new])
        yield


def _write_live(connection: sqlite3.Connection, changes: Changes) -> Iterator[None]:
    connection.executemany(_LIVE, [(organization, *mark) for organization, mark in changes.live.items()])
    yield
    # Another fact's amendment of today moves the counters too.
    for piece in pieces({key[0] for key in changes.days}):
        connection.executemany(_COPY_LIVE, [(organization,) for organization in piece])
        yield


def _known(connection: sqlite3.Connection, table: str, ids: Iterable[str]) -> dict[str, int]:
    query = f"SELECT id, total_requests FROM {table} WHERE id IN (SELECT value FROM json_each(?))"
    return dict(connection.execute(query, (json.dumps(list(ids)),)))


@lru_cache(maxsize=ROW_IDS_MAX)
def _id(*key: str) -> str:
    return row_id(*key)
