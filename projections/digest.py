"""Are two views the same? A hash of every table's ordered rows: equal digests, equal views.

    digest(connection)["all"] == digest(other)["all"]

Positions are left out. Between two logs of the same deliveries log times differ, and with them live
counters, the books, the audit of clean-ups, who was first of two that claim an id, and rows whose requests
all went: `across_logs` leaves those out too.
"""

import hashlib
import sqlite3
from collections.abc import Sequence

from projections.schema import TABLES

_NEVER = ("positions",)
_OF_ONE_LOG = (
    *("books", "client_live_counters", "generation_conflicts", "processed_generation_cleanup_log"),
    *("cleanup_partitions", "cleanup_pieces", "cleanup_organizations"),
)
_LOG_TIMES = ("created_at", "updated_at", "processed_at", "user_id_ms", "logged_ms")


def digest(
    connection: sqlite3.Connection,
    *,
    across_logs: bool = False,
    tables: Sequence[str] = tuple(TABLES),
    schema: str = "main",
) -> dict[str, str]:
    """Each table's digest, and that of them all under "all". Read it inside a transaction."""
    names = [name for name in sorted(tables) if name not in _NEVER]
    if across_logs:
        names = [name for name in names if name not in _OF_ONE_LOG]
    digests = {name: _table(connection, name, schema, across_logs) for name in names}
    digests["all"] = hashlib.blake2b(repr(digests).encode(), digest_size=16).hexdigest()
    return digests


def _table(connection: sqlite3.Connection, name: str, schema: str, across_logs: bool) -> str:
    table = TABLES[name]
    columns = [c for c in table.columns if not (across_logs and c in _LOG_TIMES)]
    where = " WHERE total_requests <> 0" if across_logs and "total_requests" in columns else ""
    query = f"SELECT {_list(columns)} FROM {schema}.{name}{where} ORDER BY {_list(table.key)}"
    hashed = hashlib.blake2b(digest_size=16)
    for row in connection.execute(query):
        hashed.update(repr(row).encode("utf-8", "surrogatepass"))
    return hashed.hexdigest()


def _list(columns: list[str] | tuple[str, ...]) -> str:
    return ", ".join(f'"{column}"' for column in columns)
