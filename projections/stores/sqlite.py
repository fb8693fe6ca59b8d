"""The views' database: one writing connection a process, shared by all its views.

    database = Database.open(Path("data/genledger.db"))
    await database.check_log(view, log)
    position = (await database.positions(view))[partition]
    [position] = await database.apply([(view, position)], "usage", partition, records)

`apply` writes a batch's rows and its position in one transaction, after comparing the stored position with
the one the batch was folded from. Statements run on the event loop in bounded pieces (a thread would only
fight them for the interpreter's lock), and so does the commit while the disk is quick (`streams.syncing`).
Nothing here retries: an error leaves rows and position as they were.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from projections import schema
from projections.stores import cleanup, conflicts, organizations, points, processed, summaries
from projections.stores.lock import FileLock
from projections.view import START, ChangesT, Folded, ItemT, Position, View, folded, position_name
from streams import fact as facts
from streams import faultpoints, topics
from streams.errors import LogBehindView, PositionMoved, SchemaMismatch, ViewError, ViewFull
from streams.log.interface import Log, Record
from streams.syncing import Syncer, run_in_thread

BUSY_TIMEOUT_MS = 10_000
# Random ids touch pages all over the table: keep them in memory, and write them back seldom.
CACHE_KIB = 262_144
CHECKPOINT_PAGES = 20_000
# What a long reader made the write-ahead log grow to is given back once that reader has gone.
WAL_KEPT_BYTES = 134_217_728
DECODE_RECORDS_MAX = 1000

# The second: no room for the index of the write-ahead log.
_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)

# A view, and where it is said to stand.
Stand = tuple[View[Any, Any], Position]

WRITERS: Mapping[str, Callable[[sqlite3.Connection, int, Any], Iterator[None]]] = {
    "summaries": summaries.write,
    "processed": processed.write,
    "organizations": organizations.write,
    "conflicts": conflicts.write,
    "cleanup": cleanup.write,
    "points": points.write,
}

_READ_POSITION = """SELECT usage_offset, source_offset, digest, records, version FROM positions
    WHERE projection = ? AND "partition" = ?"""
_READ_POSITIONS = """SELECT "partition", usage_offset, source_offset, digest, records, version
    FROM positions WHERE projection = ?"""
_WRITE_POSITION = """INSERT INTO positions
    (projection, "partition", usage_offset, source_offset, digest, records, version)
    VALUES (?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET usage_offset = excluded.usage_offset,
    source_offset = excluded.source_offset, digest = excluded.digest, records = excluded.records,
    version = excluded.version"""


class Database:
    """The one writing connection to a views' database."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: FileLock) -> None:
        self.path = path
        #: How often rebuilt rows, with positions of their own, have taken the place of the rows here.
        self.swaps = 0
        self._connection = connection
        self._file_lock = lock
        self._lock = asyncio.Lock()
        self._syncer = Syncer("views-commit")

    @classmethod
    def open(cls, path: Path) -> "Database":
        """Take the file's lock and open it; `SchemaMismatch` unless its tables are this version's."""
        lock = FileLock(path)
        try:
            schema.require_head(path)
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, uri=True)
            try:
                _configure(connection)
            except BaseException:
                connection.close()
                raise
        except BaseException:
            lock.release()
            raise
        return cls(path, connection, lock)

    async def positions(self, view: View[ItemT, ChangesT], topic: str = "usage") -> dict[int, Position]:
        """Where a view stands in each partition that it has come to."""
        name = position_name(view, topic)
        async with self._lock:
            rows = self._connection.execute(_READ_POSITIONS, (name,)).fetchall()
        for row in rows:
            _check_version(view, row[5])
        return {row[0]: Position(*row[1:5]) for row in rows}

    async def apply(
        self, stands: Sequence[Stand], topic: str, partition: int, records: Sequence[Record]
    ) -> Sequence[Position]:
        """Fold a batch for each view and write it all, with the positions it leads to; those positions.

        `PositionMoved` when a view no longer stands where it is said to, `Hole` when a fact is missing,
        `ViewFull` when the disk is full. Then nothing was written.
        """
        least = min(after.usage_offset for _, after in stands)
        records = [record for record in records if record.offset > least]
        if not records:
            return [after for _, after in stands]
        items: list[Any] = []
        # Views of one topic see the same thing in a record: it is decoded once.
        decode = stands[0][0].decode
        for i in range(0, len(records), DECODE_RECORDS_MAX):
            items += [decode(record) for record in records[i : i + DECODE_RECORDS_MAX]]
            await asyncio.sleep(0)
        works = [folded(view, records, items, after) for view, after in stands]
        async with self._lock:
            with _NamedErrors(self.path):
                await self._write(topic, partition, works)
        return [work.after for work in works]

    async def _write(self, topic: str, partition: int, works: Sequence[Folded]) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            for work in works:
                for _ in write(connection, topic, partition, work):
                    await asyncio.sleep(0)
                faultpoints.reached(f"{work.view.name}-transaction")
            await self._syncer.commit(lambda: connection.execute("COMMIT"))
        except BaseException:
            # SQLite has rolled back by itself after some errors.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    @asynccontextmanager
    async def exclusively(self) -> AsyncIterator[sqlite3.Connection]:
        """The writing connection, for oneself: outside of a transaction when it begins and when it ends."""
        async with self._lock:
            with _NamedErrors(self.path):
                try:
                    yield self._connection
                finally:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")

    async def in_thread(self, work: Callable[[], object]) -> None:
        """What is long by nature, while nobody else has the connection: the event loop goes on."""
        await run_in_thread(self._syncer.thread, work)

    async def check_log(self, view: View[ItemT, ChangesT], log: Log) -> None:
        """At start: the log holds what the view has taken, or `LogBehindView`."""
        for topic in view.topics:
            for partition, position in (await self.positions(view, topic)).items():
                if not await holds(log, topic, partition, position):
                    raise LogBehindView(f"{self.path}: {_lost(view, topic, partition, position)}")

    def wal_bytes(self) -> int:
        """The size of the write-ahead log."""
        return wal_bytes(self.path)

    async def close(self) -> None:
        """Finish what is being written, then close the file and let go of its lock."""
        async with self._lock:
            self._syncer.close()
            self._connection.close()
            self._file_lock.release()


def read_only(path: Path) -> str:
    """A database's address for who only reads it, whatever stands in its path."""
    return f"{path.resolve().as_uri()}?mode=ro"


def wal_bytes(path: Path) -> int:
    """The size of a database's write-ahead log: it grows while some reader holds an old snapshot."""
    try:
        return path.with_name(path.name + "-wal").stat().st_size
    except FileNotFoundError:
        return 0


def _configure(connection: sqlite3.Connection) -> None:
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        f"cache_size = -{CACHE_KIB}",
        f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
        f"journal_size_limit = {WAL_KEPT_BYTES}",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")


async def holds(log: Log, topic: str, partition: int, position: Position) -> bool:
    """Whether a log has the record that a position was taken at: it is the same log, and reaches as far."""
    if partition >= log.partitions(topic):
        return False
    offset = position.usage_offset
    records: Sequence[Record] = ()
    if log.end_offset(topic, partition) > offset:
        records = await log.read(topic, partition, offset, 1)
    found = records[0] if records and records[0].offset == offset else None
    if found is not None:
        return facts.digest(found.value or b"") == position.digest
    # Compaction may have removed a settings record, for a newer one of its key.
    return topic != topics.USAGE and log.end_offset(topic, partition) > offset


def read_position(
    connection: sqlite3.Connection, view: View[Any, Any], topic: str, partition: int
) -> Position:
    """Where a view stands; `SchemaMismatch` when another version of it made the rows."""
    row = connection.execute(_READ_POSITION, (position_name(view, topic), partition)).fetchone()
    if row is None:
        return START
    _check_version(view, row[4])
    return Position(*row[:4])


def write(connection: sqlite3.Connection, topic: str, partition: int, work: Folded) -> Iterator[None]:
    """A batch's rows and its position, in bounded pieces of the caller's transaction.

    `PositionMoved` when the view does not stand where the batch was folded from.
    """
    view, position = work.view, work.after
    stored, name = read_position(connection, view, topic, partition), position_name(view, topic)
    if stored != work.before:
        raise PositionMoved(
            f"{name} partition {partition} stands at {stored.usage_offset}, not at"
            f" {work.before.usage_offset}: another writer moved it. Restart this one"
        )
    if work.changes is not None:
        yield from WRITERS[view.name](connection, partition, work.changes)
        write_position(connection, view, topic, partition, position)


def write_position(
    connection: sqlite3.Connection, view: View[Any, Any], topic: str, partition: int, position: Position
) -> None:
    """Note where a view stands, in the caller's transaction."""
    place = position_name(view, topic), partition
    connection.execute(_WRITE_POSITION, (*place, *msgspec.structs.astuple(position), view.version))


def _lost(view: View[ItemT, ChangesT], topic: str, partition: int, position: Position) -> str:
    return (
        f"{view.name} has taken record {position.usage_offset} of {topic}/{partition}, which this log does"
        " not have: it was cut back, recreated or restored. Put back the log that belongs to these views,"
        " or, if this log is the right one, run `genledger replay`: it rebuilds the views from it"
    )


def _check_version(view: View[ItemT, ChangesT], version: int) -> None:
    if version != view.version:
        raise SchemaMismatch(
            f"the rows of {view.name} were made by its version {version}, this is {view.version}:"
            " run `genledger replay`"
        )


class _NamedErrors:
    """SQLite's errors as ours: a full disk is told apart, for it passes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            if getattr(error, "sqlite_errorcode", None) in _FULL:
                raise ViewFull(f"{self._path}: the disk is full; nothing was written") from error
            raise ViewError(f"{self._path}: {error}; nothing was written") from error
