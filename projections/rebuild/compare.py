"""Which rows of two files differ: the live views, and the same rebuilt aside to the same positions.

    connection.execute("ATTACH 'prove.db' AS built")
    for found in differences(connection, tables_of(parts)): ...

SQLite joins the two by their keys, so that equal rows, nearly all, never come to Python.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from projections.schema import TABLES

# More than anybody reads; what is beyond is counted.
SHOWN_MAX = 1000

Row = Mapping[str, Any]


class Difference(msgspec.Struct, frozen=True):
    """A row that is not what the log says. None: there is no such row on that side."""

    table: str
    key: Mapping[str, Any]
    live: Row | None
    rebuilt: Row | None

    @property
    def columns(self) -> Sequence[str]:
        """The columns that differ; all of them where the row is on one side only."""
        live, rebuilt = self.live or {}, self.rebuilt or {}
        names = rebuilt or live
        return [name for name in names if name not in self.key and live.get(name) != rebuilt.get(name)]


class Differences(msgspec.Struct, frozen=True):
    """The first rows that differ, by table, and how many there are of each table."""

    rows: Sequence[Difference]
    counts: Mapping[str, int]


def differences(connection: sqlite3.Connection, tables: Sequence[str]) -> Differences:
    """Every row of `main` that is another in `built`, or on one side only."""
    rows: list[Difference] = []
    counts: dict[str, int] = {}
    for table in tables:
        found, count = _of_table(connection, table)
        rows += found
        if count:
            counts[table] = count
    return Differences(rows, counts)


def _of_table(connection: sqlite3.Connection, table: str) -> tuple[list[Difference], int]:
    columns, key = list(TABLES[table].columns), list(TABLES[table].key)
    names = _names(connection, table)
    on = " AND ".join(f'l."{name}" = b."{name}"' for name in names)
    listed = {side: ", ".join(f'{side}."{name}"' for name in columns) for side in "lb"}
    both = f"SELECT {listed['l']}, {listed['b']} FROM"
    other = f"({listed['l']}) IS NOT ({listed['b']})"
    queries = (
        f"{both} main.{table} l LEFT JOIN built.{table} b ON {on} WHERE {other}",
        f'{both} built.{table} b LEFT JOIN main.{table} l ON {on} WHERE l."{names[0]}" IS NULL',
    )
    found: list[Difference] = []
    count = 0
    for query in queries:
        for values in connection.execute(query):
            count += 1
            if len(found) < SHOWN_MAX:
                live = _row(columns, values[: len(columns)], names)
                rebuilt = _row(columns, values[len(columns) :], names)
                whole = rebuilt or live or {}
                found.append(Difference(table, {name: whole[name] for name in key}, live, rebuilt))
    return found, count


def _names(connection: sqlite3.Connection, table: str) -> list[str]:
    """The primary key, as the tables themselves have it."""
    rows = connection.execute(f"PRAGMA main.table_info({table})").fetchall()
    return [row[1] for row in sorted(rows, key=lambda row: row[5]) if row[5]]


def _row(columns: Sequence[str], values: Sequence[Any], key: Sequence[str]) -> Row | None:
    row = dict(zip(columns, values, strict=True))
    return None if row[key[0]] is None else row
