"""The newest offset of each key in a part of a partition: on disk, in a file that nobody else can see.

    with closing(Newest(path_of_the_log_file)) as newest:
        newest.add(records)                     # of what is new since the last pass
        newest.learnt()
        piece = newest.superseded(partition, bounds)
        piece.offsets, piece.next_offset, piece.looked_at

Two million keys of 30 bytes are 100 MB here and would be 300 MB of Python. The file has no name any more when
it is used, so that a kill leaves nothing of it behind. The log's own file is attached to it for reading:
one SQL statement then looks at thousands of records, in a thread, without the interpreter lock.
"""

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import msgspec

from streams.log.interface import Record
from streams.log.sqlite.transaction import Partition

CACHE_KIB = 32_768

_ADD = (
    'INSERT INTO newest VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET "offset" = excluded."offset" '
    'WHERE excluded."offset" > "offset"'
)
# Where a piece ends, and how many records it has. Only the offsets are decoded here.
_PIECE = (
    'SELECT count(*), max("offset") FROM '
    '(SELECT "offset" FROM log.{table} WHERE "offset" >= ? AND "offset" < ? ORDER BY "offset" LIMIT ?)'
)
# Of a key only the newest record stays. A null that the whole pass before has seen goes as well: nothing
# older of its key is left. Records without a key always stay. One answer: each row would take the lock.
_SUPERSEDED = (
    'SELECT json_group_array("offset") FROM (SELECT r."offset" FROM log.{table} AS r '
    "LEFT JOIN main.newest AS n ON n.key = r.key "
    'WHERE r."offset" BETWEEN :start AND :end AND r."offset" < :last AND r.key IS NOT NULL '
    'AND (r."offset" < n."offset" OR (r.value IS NULL AND r."offset" < :seen_below)) ORDER BY r."offset")'
)


class Judging(msgspec.Struct, frozen=True):
    """By what a partition's records are judged, for the length of a pass."""

    #: Up to here a whole pass has been made: its nulls may go.
    seen_below: int
    #: From here on nothing is judged.
    horizon: int
    #: The last record, which stays.
    last: int


class Piece(msgspec.Struct, frozen=True):
    """What was found in one look."""

    offsets: list[int]
    next_offset: int
    looked_at: int


class Newest:
    """Filled once, then asked piece by piece."""

    def __init__(self, log_file: Path) -> None:
        path = log_file.with_suffix(".compacting")
        path.unlink(missing_ok=True)
        self._connection = sqlite3.connect(
            f"file:{quote(str(path))}", uri=True, isolation_level=None, check_same_thread=False
        )
        try:
            for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KIB}"):
                self._connection.execute(f"PRAGMA main.{pragma}").fetchall()
            self._connection.execute(
                'CREATE TABLE newest (key BLOB PRIMARY KEY, "offset" INTEGER NOT NULL) STRICT, WITHOUT ROWID'
            )
            path.unlink()
            self._connection.execute("ATTACH ? AS log", (f"file:{quote(str(log_file))}?mode=ro",))
            self._connection.execute("BEGIN")
        except BaseException:
            self._connection.close()
            raise

    def add(self, records: Iterable[Record]) -> None:
        """Take in verified records."""
        rows = [(record.key, record.offset) for record in records if record.key is not None]
        self._connection.executemany(_ADD, rows)

    def learnt(self) -> None:
        """All is taken in. From here on no transaction stays open: it would hold the log's WAL."""
        self._connection.execute("COMMIT")

    def superseded(self, partition: Partition, offset: int, limit: int, judging: Judging) -> Piece:
        """What may leave, among the next records from an offset on; blocking."""
        bounds = (offset, judging.horizon, limit)
        looked_at, end = self._connection.execute(_PIECE.format(table=partition.table), bounds).fetchone()
        if not looked_at:
            return Piece([], judging.horizon, 0)
        (found,) = self._connection.execute(
            _SUPERSEDED.format(table=partition.table),
            {"start": offset, "end": end, "last": judging.last, "seen_below": judging.seen_below},
        ).fetchone()
        return Piece(msgspec.json.decode(found, type=list[int]), end + 1, looked_at)

    def close(self) -> None:
        """The file is gone with this."""
        self._connection.close()
