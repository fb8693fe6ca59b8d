"""A snapshot's rows, read from the log into a views' file, so that a rebuild goes on from there.

    await load(log, manifest, connection, parts)

What is loaded is what was packed: the digest of each table's chunks says so. A part that was not kept when
the snapshot was made begins at it with nothing: what was before is not known any more.
"""

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from hashlib import blake2b
from typing import Any

import msgspec

from projections import schema
from projections.rebuild.plan import Part, tables_of, views_of
from projections.schema import columns_of
from projections.snapshot import chunks
from projections.stores.sqlite import write_position
from projections.view import Position, View
from streams import snapshots, topics
from streams.errors import LogDamaged, SchemaMismatch
from streams.log.interface import Log, Record
from streams.snapshots import Manifest, Stood

READ_RECORDS = 64


def position_of(stood: Stood) -> Position:
    """A snapshot's place as a view's position."""
    return Position(stood.offset, stood.source_offset, stood.digest, stood.records)


def require_same(manifest: Manifest, parts: Sequence[Part]) -> None:
    """`SchemaMismatch` when a snapshot's rows are those of another version of the views."""
    held = [part for part in parts if part in manifest.parts]
    other = [view for view in views_of(held) if manifest.versions.get(view.name) != view.version]
    if manifest.revision > schema.HEAD or other:
        what = other[0].name if other else f"revision {manifest.revision} of the tables"
        raise SchemaMismatch(
            f"snapshot {manifest.number} was made by another version of genledger ({what}), and the facts"
            " before it are gone: use the version that made it, or one that says it can read it"
        )


async def load(log: Log, manifest: Manifest, connection: sqlite3.Connection, parts: Sequence[Part]) -> None:
    """Fill the tables of these parts, in one transaction with the positions that they stand at."""
    require_same(manifest, parts)
    held = [part for part in parts if part in manifest.parts]
    tables = [table for table in tables_of(held) if table in manifest.tables]
    connection.execute("BEGIN IMMEDIATE")
    try:
        await _Reading(log, manifest, connection, tables).all()
        for view in views_of(parts):
            for stood in _stands(manifest, view):
                write_position(connection, view, stood.topic, stood.partition, position_of(stood))
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


async def check_rows(log: Log, manifest: Manifest) -> None:
    """`LogDamaged` unless every row of a snapshot is on the log, as it was packed."""
    with closing(sqlite3.connect(":memory:")) as nowhere:
        await _Reading(log, manifest, nowhere, ()).all()


def _stands(manifest: Manifest, view: View[Any, Any]) -> Iterator[Stood]:
    return (one for one in manifest.vector if one.topic in view.topics)


class _Reading:
    """The chunks of one snapshot, each in its turn."""

    def __init__(
        self, log: Log, manifest: Manifest, connection: sqlite3.Connection, tables: Sequence[str]
    ) -> None:
        self._log = log
        self._manifest = manifest
        self._connection = connection
        self._tables = frozenset(tables)
        self._columns = {table: frozenset(columns_of(connection, table)[0]) for table in tables}

    async def all(self) -> None:
        """Take every chunk; `LogDamaged` when one is missing or not what was packed."""
        records = self._records()
        for table, held in self._manifest.tables.items():
            hashed, rows = blake2b(digest_size=16), 0
            for chunk in range(held.chunks):
                key = snapshots.chunk_key(self._manifest.number, table, chunk)
                record = await anext(records, None)
                while record is not None and record.key != key:
                    record = await anext(records, None)
                if record is None or record.value is None:
                    raise self._damaged(f"{key.decode()} is missing")
                hashed.update(record.value)
                if table in self._tables:
                    rows += self._take(table, record.value)
            if hashed.hexdigest() != held.digest or (table in self._tables and rows != held.rows):
                raise self._damaged(f"the rows of {table} are not those that were packed")

    async def _records(self) -> Any:
        offset = self._manifest.first
        while found := await self._log.read(topics.SNAPSHOTS, 0, offset, READ_RECORDS):
            record: Record
            for record in found:
                yield record
            offset = found[-1].offset + 1
            await asyncio.sleep(0)  # a log of local files waits for nobody, and others have their turn

    def _take(self, table: str, value: bytes) -> int:
        try:
            chunk = chunks.decode(value)
        except (ValueError, msgspec.MsgspecError) as error:
            raise self._damaged(f"rows of {table} can't be read: {error}") from None
        unknown = set(chunk.columns) - self._columns[table]
        if unknown:
            raise SchemaMismatch(f"snapshot {self._manifest.number}: {table} has no column {min(unknown)}")
        listed = ", ".join(f'"{name}"' for name in chunk.columns)
        marks = ",".join("?" * len(chunk.columns))
        insert = f"INSERT INTO main.{table} ({listed}) VALUES ({marks})"
        try:
            self._connection.executemany(insert, chunk.rows)
        except sqlite3.IntegrityError as error:
            raise self._damaged(f"rows of {table}: {error}") from None
        return len(chunk.rows)

    def _damaged(self, what: str) -> LogDamaged:
        return LogDamaged(
            f"snapshot {self._manifest.number} is damaged: {what}. Restore the topic {topics.SNAPSHOTS} from"
            " a backup"
        )
