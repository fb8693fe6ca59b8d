"""The summaries' rows: differences added to what is there, then what depends on them, only where touched.

Each `yield` ends a bounded piece of work, after which others may run; all pieces are one transaction.
unique_users moves when a user's requests leave or reach zero; primary_model and provider are read off an
order that the rows already stand in. So a batch costs what it touches, not what the day holds.
"""

import sqlite3
from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import orjson

from projections.stores.pieces import pieces
from projections.summaries import Changes, Totals
from streams.organizations import row_id

ROW_IDS_MAX = 131_072

_AMONG = "id IN (SELECT value FROM json_each(?))"

_COLUMNS = (
    "total_requests, prompt_tokens, completion_tokens, total_tokens,"
    " raw_cost_nano, markup_cost_nano, unpriced_requests, created_at, updated_at"
)
# What SQLite's integers hold: 9.2 billion dollars a row. A sum beyond is nobody's bill, but somebody may send
# it: it stays at the bound, where an error would stop the view, and with it everybody's figures.
SUM_MAX = 2**63 - 1


def sum_of(column: str, added: str) -> str:
    """A column's own value and what is added, within the bound."""
    return f"{column} = min(max({column} + {added}, -{SUM_MAX}), {SUM_MAX})"


_ADD = f"""
    total_requests = total_requests + ?2, {sum_of("prompt_tokens", "?3")},
    {sum_of("completion_tokens", "?4")}, {sum_of("total_tokens", "?5")},
    {sum_of("raw_cost_nano", "?6")}, {sum_of("markup_cost_nano", "?7")},
    unpriced_requests = unpriced_requests + ?8,
    created_at = min(created_at, ?9), updated_at = max(updated_at, ?10)"""

# A row that is there is updated, another one inserted: an upsert costs half as much again.
_NEW_DAY = f"""INSERT INTO client_daily_usage (id, {_COLUMNS}, client_org_id, usage_date)
    VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"""
_ADD_DAY = f"UPDATE client_daily_usage SET {_ADD} WHERE id = ?1"
_NEW_MODEL = f"""INSERT INTO client_model_daily_usage
    (id, {_COLUMNS}, client_org_id, usage_date, model_name, provider)
    VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"""
_ADD_MODEL = f"UPDATE client_model_daily_usage SET {_ADD} WHERE id = ?1"
_NEW_USER = f"""INSERT INTO client_user_daily_usage
    (id, {_COLUMNS}, user_id_ms, user_id, client_org_id, usage_date, openrouter_user_id)
    VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"""
_ADD_USER = f"""UPDATE client_user_daily_usage SET {_ADD},
    user_id = CASE WHEN (?11, ?12) > (user_id_ms, user_id) THEN ?12 ELSE user_id END,
    user_id_ms = max(user_id_ms, ?11) WHERE id = ?1"""
_PROVIDER = f"""INSERT INTO model_daily_providers
    (client_org_id, usage_date, model_name, provider, total_requests, raw_cost_nano)
    VALUES (?,?,?,?,?,?) ON CONFLICT DO UPDATE SET
    total_requests = total_requests + excluded.total_requests,
    {sum_of("raw_cost_nano", "excluded.raw_cost_nano")}"""
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


def _write_days(
    connection: sqlite3.Connection, changes: Changes
) -> Generator[None, None, set[tuple[str, str]]]:
    created: set[tuple[str, str]] = set()
    for piece in pieces(changes.days.items()):
        rows = [(key, (_id(*key), *_values(totals))) for key, totals in piece]
        query = f"SELECT id, 1 FROM client_daily_usage WHERE {_AMONG}"
        old = _known(connection, query, [_id(*key) for key, _ in piece])
        connection.executemany(_ADD_DAY, [row for _, row in rows if row[0] in old])
        connection.executemany(_NEW_DAY, [(*row, *key) for key, row in rows if row[0] not in old])
        created.update(key for key, row in rows if row[0] not in old)
        yield
    return created


def _write_users(
    connection: sqlite3.Connection, changes: Changes
) -> Generator[None, None, dict[tuple[str, str], int]]:
    crossed: dict[tuple[str, str], int] = {}
    for piece in pieces(changes.users.items()):
        rows = [(key, (_id(*key), *_values(user), user.user_id_ms, user.user_id)) for key, user in piece]
        query = f"SELECT id, total_requests FROM client_user_daily_usage WHERE {_AMONG}"
        old = _known(connection, query, [_id(*key) for key, _ in piece])
        connection.executemany(_ADD_USER, [row for _, row in rows if row[0] in old])
        connection.executemany(_NEW_USER, [(*row, *key) for key, row in rows if row[0] not in old])
        for key, row in rows:
            before = old.get(row[0], 0)
            change = (before + row[1] > 0) - (before > 0)
            if change and key[2]:
                crossed[key[:2]] = crossed.get(key[:2], 0) + change
        yield
    return crossed


def _write_models(connection: sqlite3.Connection, changes: Changes) -> Iterator[None]:
    unsure = []
    for piece in pieces(changes.models.items()):
        rows = [(key, model.providers, (_id(*key), *_values(model))) for key, model in piece]
        query = f"SELECT id, provider FROM client_model_daily_usage WHERE {_AMONG}"
        old = _known(connection, query, [_id(*key) for key, _ in piece])
        connection.executemany(_ADD_MODEL, [row for _, _, row in rows if row[0] in old])
        connection.executemany(
            _NEW_MODEL, [(*row, *key, _first(parts)) for key, parts, row in rows if row[0] not in old]
        )
        unsure += [
            (*key, row[0]) for key, parts, row in rows if row[0] in old and not _stays(old[row[0]], parts)
        ]
        yield
        connection.executemany(
            _PROVIDER,
            [(*key, provider, *_bounded(sums)) for key, parts, _ in rows for provider, sums in parts.items()],
        )
        yield
    for names in pieces(unsure):
        connection.executemany(_NAME_PROVIDER, names)
        yield


def _first(providers: dict[str, list[int]]) -> str | None:
    """The provider of a new row: most requests, then cost, then name."""
    order = sorted((-requests, -raw_nano, name) for name, (requests, raw_nano) in providers.items())
    return order[0][2] if order[0][0] < 0 else None


def _stays(provider: str | None, changed: dict[str, list[int]]) -> bool:
    """The first of the order gained requests and no other moved: it is the first still."""
    return provider is not None and changed.keys() == {provider} and changed[provider][0] > 0


def _values(totals: Totals) -> tuple[int, ...]:
    return (*_bounded(totals.difference()), totals.first_s, totals.last_s)


def _bounded(numbers: Sequence[int]) -> Sequence[int]:
    if min(numbers) >= -SUM_MAX and max(numbers) <= SUM_MAX:
        return numbers
    return [min(max(number, -SUM_MAX), SUM_MAX) for number in numbers]


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


def _known(connection: sqlite3.Connection, query: str, ids: Iterable[str]) -> dict[object, Any]:
    return dict(connection.execute(query, (orjson.dumps(list(ids)).decode(),)))


@lru_cache(maxsize=ROW_IDS_MAX)
def _id(*key: str) -> str:
    return row_id(*key)
