"""Three summaries and processed_generations in SQLite, as one would write them by hand: no books, no live
counters, no providers of a model's day, no second look at a position. The project's own tables and pragmas.

    tables = Tables(path)
    sums = Sums()
    sums.add(("acme", day, user), ("acme", day, model, provider), (prompt, completion, nano, marked_up))
    tables.write(sums, processed, now_s, positions)

One transaction each time, fsynced. A day's row is the sum of its users' rows: each event is in exactly one.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from projections import schema
from streams.organizations import row_id

_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "cache_size = -262144",
    "wal_autocheckpoint = 20000",
)
_SUMS = (
    "total_requests",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "raw_cost_nano",
    "markup_cost_nano",
)
_KEYS: dict[str, tuple[str, ...]] = {
    "client_daily_usage": ("client_org_id", "usage_date"),
    "client_user_daily_usage": ("client_org_id", "usage_date", "openrouter_user_id", "user_id", "user_id_ms"),
    "client_model_daily_usage": ("client_org_id", "usage_date", "model_name", "provider"),
}
_PROCESSED = """INSERT INTO processed_generations
    (id, client_org_id, generation_date, processed_at, total_tokens, total_cost_nano) VALUES (?,?,?,?,?,?)"""
_BARE = """CREATE TABLE processed_generations (id TEXT NOT NULL PRIMARY KEY, client_org_id TEXT NOT NULL,
    generation_date TEXT NOT NULL, processed_at INTEGER NOT NULL, total_tokens INTEGER NOT NULL,
    total_cost_nano INTEGER) STRICT, WITHOUT ROWID"""
_POSITION = """INSERT INTO positions (projection, "partition", usage_offset, source_offset, digest, version)
    VALUES ('by hand', ?, ?, 0, '', 1) ON CONFLICT DO UPDATE SET usage_offset = excluded.usage_offset"""

Key = tuple[str, ...]
Rows = dict[Key, list[int]]
# id, organisation, day, time, tokens, nano-dollars
Processed = tuple[str, str, str, int, int, int]


class Sums:
    """What a batch adds to users' and models' days: requests, prompt, completion, cost, marked-up cost."""

    def __init__(self) -> None:
        self.users: Rows = {}
        self.models: Rows = {}

    def add(self, key: Key, other: Key, worth: tuple[int, int, int, int]) -> None:
        """One event: a row of its user's and one of its model's day."""
        prompt, completion, nano, marked_up = worth
        try:
            row = self.users[key]
            row[0] += 1
            row[1] += prompt
            row[2] += completion
            row[3] += nano
            row[4] += marked_up
        except KeyError:
            self.users[key] = [1, prompt, completion, nano, marked_up]
        try:
            row = self.models[other]
            row[0] += 1
            row[1] += prompt
            row[2] += completion
            row[3] += nano
            row[4] += marked_up
        except KeyError:
            self.models[other] = [1, prompt, completion, nano, marked_up]

    def days(self) -> Rows:
        """The organisations' days, from their users'."""
        found: Rows = {}
        for key, row in self.users.items():
            day = found.setdefault(key[:2], [0, 0, 0, 0, 0])
            for place, value in enumerate(row):
                day[place] += value
        return found


class Tables:
    """The one connection that writes. Which rows there are is kept in memory: it began with none."""

    def __init__(self, path: Path, *, indexed: bool = True) -> None:
        schema.upgrade(path)
        self._connection = connect(path)
        self._there: dict[str, dict[Key, str]] = {name: {} for name in _KEYS}
        if not indexed:
            self._connection.execute("DROP TABLE processed_generations")
            self._connection.execute(_BARE)

    def write(
        self,
        sums: Sums,
        processed: Iterable[Processed],
        now_s: int,
        positions: Mapping[int, int] | None = None,
    ) -> None:
        """Add a batch, in one transaction."""
        users = {(*key, key[2], "0"): row for key, row in sums.users.items()}
        self._connection.execute("BEGIN")
        for name, rows in zip(_KEYS, (sums.days(), users, sums.models), strict=True):
            self._write_sums(name, rows, now_s)
        self._connection.executemany(_PROCESSED, processed)
        self._connection.executemany(_POSITION, (positions or {}).items())
        self._connection.execute("COMMIT")

    def _write_sums(self, name: str, rows: Rows, now_s: int) -> None:
        there, new, old = self._there[name], [], []
        for key, (requests, prompt, completion, nano, marked_up) in rows.items():
            id = there.get(key)
            if id is not None:
                old.append((requests, prompt, completion, prompt + completion, nano, marked_up, now_s, id))
            else:
                there[key] = id = row_id(*key[:3])
                sums = (requests, prompt, completion, prompt + completion, nano, marked_up)
                new.append((*sums, now_s, id, now_s, *key))
        columns = (*_SUMS, "updated_at", "id", "created_at", *_KEYS[name])
        self._connection.executemany(
            f"INSERT INTO {name} ({', '.join(columns)}, unpriced_requests) VALUES ({'?, ' * len(columns)} 0)",
            new,
        )
        added = ", ".join(f"{column} = {column} + ?" for column in _SUMS)
        self._connection.executemany(f"UPDATE {name} SET {added}, updated_at = ? WHERE id = ?", old)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def connect(path: Path) -> sqlite3.Connection:
    """A connection with the project's own settings."""
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    return connection
