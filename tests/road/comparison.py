"""What a service's tables hold, column by column, against what the model says; and two services' digests.

    assert differences(data, tables(model, settings_records(data))) == []
    assert digest(one) == digest(other)

The digest is made here and not by the service. It leaves out what law 5 says differs between two logs of
the same deliveries: positions, log times, live counters, rows of zero requests; and the organisation that
sends no dates, for its days are the log's.
"""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.model.ledger import Model
from tests.model.tables import Row, Tables
from tests.model.traffic import UNDATED
from tests.road.files import VIEWS, Files, Records, connect

KEYS = {
    "client_organizations": ("id",),
    "user_client_mapping": ("client_org_id", "openrouter_user_id"),
    "client_live_counters": ("client_org_id",),
    "client_daily_usage": ("client_org_id", "usage_date"),
    "client_user_daily_usage": ("client_org_id", "usage_date", "openrouter_user_id"),
    "client_model_daily_usage": ("client_org_id", "usage_date", "model_name"),
    "processed_generations": ("id",),
    "usage_points": ("id",),
}
# The service's own bookkeeping beside the promised columns: texts of the REAL columns, marks of "newest".
INTERNAL = {
    "client_organizations": {"markup_rate_text", "monthly_limit_text"},
    "client_live_counters": {"last_ms", "timezone"},
    "client_user_daily_usage": {"user_id_ms"},
}
LOG_TIMES = {"created_at", "updated_at", "processed_at", "logged_ms"}
SHOWN_MAX = 20


def differences(data: Path, expected: Tables) -> list[str]:
    """The first rows that are not as they must be, each in a line; empty when all are."""
    found: list[str] = []
    with closing(connect(data / VIEWS)) as connection:
        for name, rows in expected.items():
            found += _differences(connection, name, rows)
    return found[:SHOWN_MAX]


def _differences(
    connection: sqlite3.Connection, name: str, expected: dict[tuple[str, ...], Row]
) -> Iterator[str]:
    columns = _columns(connection, name)
    actual = dict(_rows(connection, name, columns))
    for key in sorted(set(expected) | set(actual)):
        want, have = expected.get(key), actual.get(key)
        if want is None or have is None:
            yield f"{name} {key}: {'missing' if have is None else 'must not be there'}"
        elif want != have:
            wrong = {c: (have.get(c), want.get(c)) for c in {*want, *have} if have.get(c) != want.get(c)}
            yield f"{name} {key}: (has, must have) " + repr(wrong)


def _columns(connection: sqlite3.Connection, name: str) -> list[str]:
    found = [row[1] for row in connection.execute(f"PRAGMA table_xinfo({name})")]
    return [column for column in found if column not in INTERNAL.get(name, set())]


def _rows(
    connection: sqlite3.Connection, name: str, columns: list[str]
) -> Iterator[tuple[tuple[str, ...], Row]]:
    listed = ", ".join(f'"{column}"' for column in columns)
    for values in connection.execute(f"SELECT {listed} FROM {name}"):
        row = dict(zip(columns, values, strict=True))
        yield tuple(row[column] for column in KEYS[name]), row


def book_differences(data: Path, model: Model, log: Records | None = None) -> list[str]:
    """Where the service's books are not the model's, or don't add up to the records on the log."""
    with closing(connect(data / VIEWS)) as connection:
        actual = {(p, f): n for p, f, n in connection.execute('SELECT "partition", fate, records FROM books')}
    expected = {(p, fate): n for p, fates in model.books.items() for fate, n in fates.items()}
    found = [
        f"books {key}: has {actual.get(key, 0)}, must have {expected.get(key, 0)}"
        for key in sorted({*actual, *expected})
        if actual.get(key, 0) != expected.get(key, 0)
    ]
    log = log or Files(data)
    for topic, number in log.places():
        if topic == "generations":
            records, facts = log.after(topic, number, -1), log.after("usage", number, -1)
            counted = sum(n for (p, _), n in actual.items() if p == number)
            if not counted == records == facts:
                found.append(f"partition {number}: {records} records, {facts} facts, {counted} booked")
    return found


def digest(data: Path) -> str:
    """Equal for two logs of the same deliveries, in whatever order they came."""
    hashed = hashlib.sha256()
    with closing(connect(data / VIEWS)) as connection:
        for name in KEYS:
            if name == "client_live_counters":
                continue
            columns = [column for column in _columns(connection, name) if column not in LOG_TIMES]
            for key, row in sorted(_rows(connection, name, columns)):
                undated = row.get("client_org_id") == f"org-{UNDATED:02d}" and name != "user_client_mapping"
                if row.get("total_requests") != 0 and not undated:
                    hashed.update(repr((name, key, sorted(row.items()))).encode())
    return hashed.hexdigest()
