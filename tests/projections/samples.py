"""Facts and records made by hand, and a database to put them in."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from projections.digest import digest
from projections.view import START, Position
from streams import fact as facts
from streams.fact import Entry, Fact
from streams.log.interface import Record

DAY = "2026-11-20"
NOON_MS = 1_795_176_000_000  # 2026-11-20T12:00:00Z


def entry(organization: str = "acme", day: str = DAY, **fields: Any) -> Entry:
    """What one generation is worth: 10 + 5 tokens, 100 nano-dollars, sold at 130."""
    defaults: dict[str, Any] = {
        "today": DAY,
        "model": "m",
        "user": "alice",
        "provider": "P",
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "cost_nano": 100,
        "markup_nano": 130,
    }
    return Entry(organization=organization, day=day, **(defaults | fields))


def fact(offset: int, fate: str = "counted", **fields: Any) -> Fact:
    """A fact of partition 0, each a second after the one before."""
    defaults: dict[str, Any] = {
        "id": f"gen-{offset}",
        "partition": 0,
        "prev": offset - 1,
        "time_ms": NOON_MS + offset * 1000,
    }
    return Fact(fate=fate, offset=offset, **(defaults | fields))


def records(items: Sequence[Fact], first: int = 0, partition: int = 0) -> list[Record]:
    """The facts as records of `usage`."""
    return [
        Record("usage", partition, first + i, item.time_ms, item.id.encode(), facts.encode(item))
        for i, item in enumerate(items)
    ]


async def apply(database: Any, view: Any, items: Sequence[Fact], after: Position = START) -> Position:
    """Put facts into a database as the next batch of partition 0."""
    return await applied(database, view, "usage", 0, records(items, after.usage_offset + 1), after)


async def applied(
    database: Any,
    view: Any,
    topic: str,
    partition: int,
    batch: Sequence[Record],
    after: Position = START,
) -> Position:
    """Put records into a database for one view."""
    [position] = await database.apply([(view, after)], topic, partition, batch)
    return position


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that looks at what is committed."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        yield connection


def row_of(path: Path, table: str, where: str = "1") -> dict[str, Any]:
    """The one row of a table."""
    with reading(path) as connection:
        found = connection.execute(f"SELECT * FROM {table} WHERE {where}").fetchall()
    assert len(found) == 1, [dict(row) for row in found]
    return dict(found[0])


def digest_of(path: Path, **options: bool) -> dict[str, str]:
    """The digests of a database file."""
    with closing(sqlite3.connect(path)) as connection:
        return digest(connection, **options)
