"""How large everything is, for the status and the metrics: topics, the ledger's table, the views' tables.

    sizing = Sizing()
    sizing.topics = partial(topic_sizes, log, specs)
    sizing.state = ledger.sizes
    sizing.tables = partial(table_sizes, path)
    sizing.start(watch, stack)

Each process measures what it has, every few minutes, and seldomer when that takes long: the pages of the
views' tables are counted by walking them (a second a gigabyte, in a thread; the walk of a quiet table is from
the cache). The rest are counters, or a few rows for an average.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

from genledger.roles.tasks import keep
from genledger.watch import Watch
from projections.stores.sqlite import read_only
from streams import metrics
from streams.clock import monotonic_s
from streams.errors import LogError
from streams.log.interface import TopicSize

FIRST_AFTER_S = 2.0
EVERY_S = 60.0
TABLES_EVERY_S = 600.0
# Of the time, at most so much is spent on walking tables.
WALK_SHARE = 0.01

_TABLES = """SELECT coalesce(s.tbl_name, d.name), sum(d.pgsize) FROM dbstat AS d
    LEFT JOIN sqlite_schema AS s ON s.name = d.name WHERE d.aggregate = TRUE GROUP BY 1 ORDER BY 1"""

_logger = logging.getLogger("genledger.sizes")


def table_sizes(database: Path) -> Mapping[str, int]:
    """The bytes of each table with its indexes, and of free pages as `(free)`. Blocking: for a thread."""
    with closing(sqlite3.connect(read_only(database), uri=True, isolation_level=None)) as connection:
        sizes: dict[str, int] = dict(connection.execute(_TABLES).fetchall())
        (free,), (page_bytes,) = (
            connection.execute(f"PRAGMA {name}").fetchone() for name in ("freelist_count", "page_size")
        )
    return {**sizes, "(free)": free * page_bytes}


def file_sizes(directory: Path) -> Mapping[str, int]:
    """The bytes of each file of an embedded log."""
    return {path.stem: path.stat().st_size for path in sorted(directory.glob("*.db"))}


class Sizing:
    """What a process can tell; what it has not is None, and nothing is told of it."""

    def __init__(self) -> None:
        self.topics: Callable[[], Awaitable[Mapping[str, TopicSize]]] | None = None
        self.files: Callable[[], Mapping[str, int]] | None = None
        self.state: Callable[[], tuple[int, int] | None] | None = None
        self.tables: Callable[[], Mapping[str, int]] | None = None
        self._told: dict[str, Any] = {}
        self._tables_at_s = 0.0

    def told(self) -> Mapping[str, Any] | None:
        """For the status: what was measured last."""
        return self._told or None

    def start(self, watch: Watch, stack: AsyncExitStack) -> None:
        """Begin, and end with the stack."""
        watch.sizes = self.told
        keep(self._go_on(), "the sizes", watch, stack)

    async def _go_on(self) -> None:
        await asyncio.sleep(FIRST_AFTER_S)
        while True:
            try:
                await self.look()
            except (LogError, OSError, sqlite3.Error) as error:
                _logger.info("sizes can't be measured now: %s", error)
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Measure."""
        if self.topics is not None:
            self._tell_topics(await self.topics())
        if self.files is not None:
            self._told["files"] = {name: {"bytes": size} for name, size in self.files().items()}
            for name, size in self._told["files"].items():
                metrics.LOG_FILE_BYTES.labels(name).set(size["bytes"])
        state = None if self.state is None else self.state()
        if state is not None:
            ids, size_bytes = state
            metrics.STATE_IDS.set(ids)
            metrics.STATE_BYTES.set(size_bytes)
            self._told["state"] = {"ids": ids, "bytes": size_bytes}
        if self.tables is not None and monotonic_s() >= self._tables_at_s:
            await self._look_at_tables(self.tables)

    def _tell_topics(self, sizes: Mapping[str, TopicSize]) -> None:
        told = self._told["topics"] = {}
        for name, size in sizes.items():
            metrics.TOPIC_RECORDS.labels(name).set(size.records)
            told[name] = {"records": size.records}
            if size.size_bytes is not None:
                metrics.TOPIC_BYTES.labels(name).set(size.size_bytes)
                told[name]["bytes"] = size.size_bytes

    async def _look_at_tables(self, tables: Callable[[], Mapping[str, int]]) -> None:
        began_s = monotonic_s()
        found = await asyncio.to_thread(tables)
        now_s = monotonic_s()
        self._tables_at_s = now_s + max(TABLES_EVERY_S, (now_s - began_s) / WALK_SHARE)
        self._told["tables"] = {name: {"bytes": size} for name, size in found.items()}
        for name, size in found.items():
            metrics.TABLE_BYTES.labels(name).set(size)
