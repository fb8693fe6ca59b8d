"""The rebuilt rows take the live ones' place: copied beside them bit by bit, then swapped in one transaction.

    await swap(database, Path("data/replay-done.db"), log)

The copy is made into shadow tables of the same file, in short transactions between those of the running
views. Then one transaction drops the live tables, renames the shadows, and folds what the views have taken
meanwhile, so that they go on from where they stand: a reader sees the old rows or the new ones, at the same
position or a later one. Renaming, not files: a database file put in another's place serves stale rows.
"""

import asyncio
import re
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from projections import schema
from projections.rebuild.aside import Origin, origin_of, positions_of, stands
from projections.rebuild.courses import READ_RECORDS
from projections.rebuild.plan import PARTS, VIEWS, Place, tables_of, topics_of
from projections.stores.sqlite import Database, holds, read_only, read_position, write
from projections.view import Position, View, folded, position_name
from streams import faultpoints
from streams.errors import LogMismatch, SchemaMismatch, ViewFull
from streams.log.interface import Log

SHADOW = "shadow_"
# Some 20 ms of work, in a transaction of its own.
COPIED_ROWS_MAX = 2000


class Table(msgspec.Struct, frozen=True):
    """What is needed to copy a table: its own text, what was made on it, its columns and its key."""

    name: str
    made: str
    indexes: tuple[str, ...]
    columns: str
    key: tuple[str, ...]


async def swap(database: Database, built: Path, log: Log) -> None:
    """Put the rows of a rebuilt file in the place of the live ones. Interrupted, it begins anew."""
    origin = origin_of(built)
    if origin is None or origin.log != log.identity:
        raise LogMismatch(f"{built} was not rebuilt from this log: begin `genledger replay` again")
    views = [VIEWS[name] for name in origin.versions]
    _check(origin, views)
    await _check_reach(built, log)
    async with database.exclusively() as connection:
        _detach(connection)
        _drop_shadows(connection)
        connection.execute("ATTACH ? AS built", (read_only(built),))
    try:
        tables = []
        for name in tables_of(origin.parts):
            async with database.exclusively() as connection:
                table = _table(connection, name)
                connection.execute(_shadow_of(table))
            tables.append(table)
            await _copy(database, table)
        async with database.exclusively() as connection:
            await _exchange(database, connection, tables, views, log)
    finally:
        async with database.exclusively() as connection:
            _detach(connection)
        with suppress(ViewFull):  # they go at the next swap
            async with database.exclusively() as connection:
                _drop_shadows(connection)


def _check(origin: Origin, views: Sequence[View[Any, Any]]) -> None:
    other = any(origin.versions[view.name] != view.version for view in views)
    if other or origin.revision != schema.HEAD:
        raise SchemaMismatch("the views were rebuilt by another version: begin `genledger replay` again")


async def _check_reach(built: Path, log: Log) -> None:
    """The log may have been cut back since: rows of facts that it lacks would never be left again."""
    for (view, topic, partition), position in positions_of(built).items():
        if not await holds(log, topic, partition, position):
            raise LogMismatch(
                f"{built}: {view} has taken record {position.usage_offset} of {topic}/{partition}, which this"
                " log does not have: begin `genledger replay` again"
            )


def _detach(connection: sqlite3.Connection) -> None:
    """Let go of a rebuilt file, also of one that an earlier swap could not let go of."""
    if "built" in {row[1] for row in connection.execute("PRAGMA database_list").fetchall()}:
        connection.execute("DETACH built")


def _drop_shadows(connection: sqlite3.Connection) -> None:
    """What an interrupted swap has left."""
    for name in tables_of(PARTS):
        connection.execute(f"DROP TABLE IF EXISTS main.{SHADOW}{name}")


def _table(connection: sqlite3.Connection, name: str) -> Table:
    query = "SELECT sql FROM main.sqlite_schema WHERE type = ? AND tbl_name = ? AND sql IS NOT NULL"
    [(made,)] = connection.execute(query, ("table", name))
    indexes = tuple(sql for (sql,) in connection.execute(query, ("index", name)))
    found = connection.execute(f"PRAGMA main.table_xinfo({name})").fetchall()
    columns = ", ".join(f'"{row[1]}"' for row in found if row[6] == 0)  # those that are not generated
    key = [row[1] for row in sorted(found, key=lambda row: row[5]) if row[5]]
    return Table(name, made, indexes, columns, tuple(f'"{column}"' for column in key))


def _shadow_of(table: Table) -> str:
    return re.sub(rf'^CREATE TABLE "?{table.name}"?', f"CREATE TABLE {SHADOW}{table.name}", table.made)


async def _copy(database: Database, table: Table) -> None:
    """In the order of the key, a piece a transaction: the running views have their turn between."""
    key = ", ".join(table.key)
    after: Sequence[Any] = ()
    while True:
        beyond = f"WHERE ({key}) > ({','.join('?' * len(after))})" if after else ""
        async with database.exclusively() as connection:
            last = connection.execute(
                f"SELECT {key} FROM built.{table.name} {beyond} ORDER BY {key} LIMIT 1 OFFSET ?",
                (*after, COPIED_ROWS_MAX - 1),
            ).fetchone()
            within, values = (beyond, after)
            if last is not None:
                bound = f"({key}) <= ({','.join('?' * len(last))})"
                within, values = (f"{beyond} AND {bound}" if beyond else f"WHERE {bound}"), (*after, *last)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                f"INSERT INTO {SHADOW}{table.name} ({table.columns})"
                f" SELECT {table.columns} FROM built.{table.name} {within} ORDER BY {key}",
                values,
            )
            connection.execute("COMMIT")
        faultpoints.reached("swap-copying")
        if last is None:
            return
        after = last
        await asyncio.sleep(0)


async def _exchange(
    database: Database,
    connection: sqlite3.Connection,
    tables: Sequence[Table],
    views: Sequence[View[Any, Any]],
    log: Log,
) -> None:
    """The one transaction: nobody else has the connection, and readers see nothing of it until its end."""
    # Sorting for an index needs room by the million of rows: on disk. And a view that somebody has made over
    # our tables must not stop the renaming: it finds the new table by its name.
    connection.execute("PRAGMA temp_store = FILE")
    connection.execute("PRAGMA legacy_alter_table = ON")
    try:
        await _in_one_transaction(database, connection, tables, views, log)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute("PRAGMA legacy_alter_table = OFF")
        connection.execute("PRAGMA temp_store = MEMORY")


async def _in_one_transaction(
    database: Database,
    connection: sqlite3.Connection,
    tables: Sequence[Table],
    views: Sequence[View[Any, Any]],
    log: Log,
) -> None:
    connection.execute("BEGIN IMMEDIATE")
    names = [view.name for view in views]
    live = {place: position for place, position in stands(connection).items() if place[0] in names}
    # Dropping and indexing takes seconds for millions of rows.
    await database.in_thread(lambda: _rename(connection, tables))
    for name in {position_name(view, topic) for view in views for topic in view.topics}:
        connection.execute("DELETE FROM main.positions WHERE projection = ?", (name,))
        connection.execute(
            "INSERT INTO main.positions SELECT * FROM built.positions WHERE projection = ?", (name,)
        )
    for place in sorted({(topic, partition) for _, topic, partition in live}):
        for view in topics_of(views)[place[0]]:
            await _catch_up(connection, view, place, live.get((view.name, *place)), log)
    faultpoints.reached("swap-transaction")
    await database.in_thread(lambda: connection.execute("COMMIT"))
    database.swaps += 1
    faultpoints.reached("swapped")


def _rename(connection: sqlite3.Connection, tables: Sequence[Table]) -> None:
    for table in tables:
        connection.execute(f"DROP TABLE main.{table.name}")
        connection.execute(f"ALTER TABLE main.{SHADOW}{table.name} RENAME TO {table.name}")
        for statement in table.indexes:
            connection.execute(statement)


async def _catch_up(
    connection: sqlite3.Connection,
    view: View[Any, Any],
    place: Place,
    target: Position | None,
    log: Log,
) -> None:
    """Fold what the live view had taken beyond the rebuilt one, so that no figure goes back.

    Views of another log, which stand where this one has nothing, are what is being replaced: no target.
    """
    if target is None or not await holds(log, *place, target):
        return
    while (stand := read_position(connection, view, *place)).usage_offset < target.usage_offset:
        room = target.usage_offset - stand.usage_offset
        records = await log.read(*place, stand.usage_offset + 1, min(READ_RECORDS, room))
        records = [record for record in records if record.offset <= target.usage_offset]
        if not records:
            return
        work = folded(view, records, [view.decode(record) for record in records], stand)
        for _ in write(connection, *place, work):
            await asyncio.sleep(0)
