"""What SQLite does for a night: each statement of the views and of the log finds its rows by a key.

The statements are not listed here: they are those that a few days with their runs, compaction and look-ups
really make, as SQLite's own trace tells them.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from projections.queries import Queries
from streams.log.sqlite.schema import connect
from tests.retention.deliveries import Traffic
from tests.retention.year import Night, Year, opened

DAYS, KEPT_DAYS = 14, 7
# One row a partition or topic of the log, a piece of JSON, a handful of counters: never a row an id.
SMALL = re.compile(
    r"SCAN (partitions|writers|commits|meta|cleaned|json_each|CONSTANT ROW|cleanup_\w+|positions)"
)
_LITERALS = re.compile(r"'(?:[^']|'')*'|\bx'[0-9a-f]*'|\b[0-9]+(?:\.[0-9]+)?\b", re.IGNORECASE)


class Trace:
    """One example of every kind of statement that a connection makes."""

    def __init__(self, *connections: sqlite3.Connection) -> None:
        self.examples: dict[str, str] = {}
        for connection in connections:
            connection.set_trace_callback(self.seen)

    def seen(self, statement: str) -> None:
        """SQLite has been asked this."""
        if statement.lstrip().upper().startswith(("SELECT", "INSERT", "UPDATE", "DELETE")):
            self.examples.setdefault(_LITERALS.sub("?", statement), statement)

    def scans(self, connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
        """Statements that look at every row of a table that grows with ids or days, and how."""
        for shape, example in self.examples.items():
            for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {example}"):
                if detail.startswith("SCAN") and not SMALL.match(detail):
                    yield shape, detail


def _writer_of(year: Year) -> sqlite3.Connection:
    """The views' one writing connection."""
    return year.followers[0]._database._connection


async def test_no_statement_of_a_night_looks_at_every_row(tmp_path: Path) -> None:
    """Forgetting, the audit and compaction go by keys; compaction alone reads a topic, piece by piece."""
    async with opened(tmp_path, Traffic(seed=5, ids_per_day=30)) as year:
        views = Trace(_writer_of(year))
        logs = {name: Trace(store._connection, store.reader) for name, store in year.log._stores.items()}
        for day in range(DAYS):
            await year.day(day, Night(KEPT_DAYS))
        await year.compact()
        assert sum(run.deleted for run in year.model.runs) > 50
        with closing(sqlite3.connect(year.views)) as connection:
            assert "DELETE FROM processed_generations WHERE id = ?" in views.examples
            assert list(views.scans(connection)) == []
        for name, trace in logs.items():
            with closing(connect(tmp_path / "log" / f"{name}.db", read_only=True)) as connection:
                assert any(shape.startswith("DELETE") for shape in trace.examples)
                assert list(trace.scans(connection)) == []


async def test_whether_an_id_is_there_is_asked_of_the_primary_key(tmp_path: Path) -> None:
    """The duplicate look-up is a search by the id, however many there are."""
    async with opened(tmp_path, Traffic(seed=6, ids_per_day=30)) as year:
        await year.day(0, Night(None))
        queries = await Queries.open(year.views)
        try:
            trace = Trace()
            await queries._connection.set_trace_callback(trace.seen)
            assert await queries.processed(next(iter(year.model.ids))) is not None
        finally:
            await queries.close()
        with closing(sqlite3.connect(year.views)) as connection:
            [plan] = [
                detail
                for example in trace.examples.values()
                for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {example}")
            ]
        assert re.fullmatch(r"SEARCH processed_generations USING (PRIMARY KEY|INDEX \w+) \(id=\?\)", plan)
