"""What every peer writes: three summaries in SQLite, and how it is read back.

    sums = Sums(path)
    sums.add(Event(...))       # in memory
    sums.write()               # one transaction: WAL, synchronous=FULL

    check(path, traffic.totals())

Plain tables and plain Python: it takes some 3 us an event, the same for each of them.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from benchmarks import BenchmarkFailed
from benchmarks.traffic import Totals

BATCH = 4000
TABLES = ("days", "users", "models")
NANO_DIGITS = 9
_ADD = (
    "requests = requests + excluded.requests, tokens = tokens + excluded.tokens, nano = nano + excluded.nano"
)


class Event(NamedTuple):
    """What the summaries need of one generation."""

    organization: str
    day: str
    user: str
    model: str
    provider: str
    tokens: int
    nano: int


def nano_of(cost: str) -> int:
    """Decimal text as integer nano-dollars."""
    whole, _, rest = cost.partition(".")
    return int(whole + rest.ljust(NANO_DIGITS, "0"))


class Sums:
    """Sums of a batch in memory, and their way to the disk."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        for table in TABLES:
            self._connection.execute(
                f"CREATE TABLE {table} (organization TEXT, day TEXT, name TEXT, provider TEXT,"
                " requests INTEGER, tokens INTEGER, nano INTEGER,"
                " PRIMARY KEY (organization, day, name, provider)) WITHOUT ROWID"
            )
        self._rows: dict[str, dict[tuple[str, str, str, str], list[int]]] = {name: {} for name in TABLES}
        self.waiting = 0
        self.written = 0

    def add(self, event: Event) -> None:
        """Fold one generation."""
        organization, day, user, model, provider, tokens, nano = event
        keys = (
            (organization, day, "", ""),
            (organization, day, user, ""),
            (organization, day, model, provider),
        )
        for rows, key in zip(self._rows.values(), keys, strict=True):
            row = rows.get(key)
            if row is None:
                rows[key] = [1, tokens, nano]
            else:
                row[0] += 1
                row[1] += tokens
                row[2] += nano
        self.waiting += 1

    def write(self) -> None:
        """Everything folded since the last time, in one transaction."""
        if not self.waiting:
            return
        self._connection.execute("BEGIN")
        for table, rows in self._rows.items():
            self._connection.executemany(
                f"INSERT INTO {table} VALUES (?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET {_ADD}",
                [(*key, *row) for key, row in rows.items()],
            )
            rows.clear()
        self._connection.execute("COMMIT")
        self.written += self.waiting
        self.waiting = 0

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


def check(path: Path, expected: Totals) -> None:
    """Each table must add up to what was sent, to the nano-dollar."""
    with closing(sqlite3.connect(path)) as connection:
        for table in TABLES:
            query = (
                f"SELECT ifnull(sum(requests), 0), ifnull(sum(tokens), 0), ifnull(sum(nano), 0) FROM {table}"
            )
            found = Totals(*connection.execute(query).fetchone())
            if found != expected:
                raise BenchmarkFailed(f"{table} of {path.name} adds up to {found}, sent was {expected}")
