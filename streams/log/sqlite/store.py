"""One file of the log: its connections, its partitions, and its transactions.

Everything here is plain, blocking and without a lock: the committer (`committer.py`) sees to it that one
transaction runs at a time. Two connections: one writes; one only reads, and so never sees what is not
committed.

    store = Store(path, identity, bounds)
    tx = store.begin(time_ms=now_ms())
    offsets = tx.write([Message("usage", 0, b"gen-1", b"{}")], [b""])
    tx.seal(written_bytes=7); store.commit(); tx.publish()
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from streams.errors import LogDamaged
from streams.log.interface import Record
from streams.log.sqlite import records
from streams.log.sqlite.bounds import Bounds
from streams.log.sqlite.marks import Mark, Marks
from streams.log.sqlite.schema import RESTORE, connect, log_error, table_of
from streams.log.sqlite.tail import Tail
from streams.log.sqlite.transaction import (
    Cleaned,
    Partition,
    Place,
    Progress,
    Transaction,
    WriterKey,
    load_cleaned,
    load_progress,
)

# What a commit writes besides its records: the pages that hold the counters and the tail of each table.
COMMIT_BYTES = 16_384
# Rows from either end whose size stands for all.
SAMPLE = 100
# Of records: their offsets, as a list of numbers in JSON, are one parameter.
AMONG = 'WHERE "offset" IN (SELECT value FROM json_each(?))'


class Store:
    """An open file. `partitions` and `progress` hold what is committed, and nothing else."""

    def __init__(self, path: Path, identity: str, bounds: Bounds, *, read_only: bool = False) -> None:
        self.path = path
        self.identity = identity
        self._bounds = bounds
        self._read_only = read_only
        self._unchecked_bytes = 0
        self._data_version = -1
        self.tail = Tail(bounds.tail_bytes)
        self.reader = connect(path, read_only=True)
        self._scanner = connect(path, read_only=True)
        self._connection = self.reader if read_only else connect(path, read_only=False)
        self._marks = None if read_only else Marks(marks_path(path))
        with self.errors():
            self.commits: int = self.reader.execute("SELECT count FROM commits").fetchone()[0]
            self.partitions: dict[Place, Partition] = load_partitions(self.reader)
            self.progress: dict[WriterKey, Progress] = load_progress(self.reader)
            self.cleaned: dict[Place, Cleaned] = load_cleaned(self.reader, self.partitions.values())
        self._by_id = sorted(self.partitions.values(), key=lambda partition: partition.id)
        self.mark()

    @contextmanager
    def errors(self, place: str = "") -> Iterator[None]:
        """Raise what goes wrong with the file as the log's own errors, with the place."""
        try:
            yield
        except records.Damage as error:
            raise LogDamaged(f"{self.path}: {place} {error}. {RESTORE}") from error
        except sqlite3.Error as error:
            raise log_error(self.path, error) from error

    def refresh(self) -> None:
        """Look again at what another process has committed (read-only logs)."""
        if self._read_only:
            with self.errors():
                (version,) = self.reader.execute("PRAGMA data_version").fetchone()
                if version == self._data_version:
                    return
                self._data_version = version
                self.partitions = load_partitions(self.reader)
                self.progress = load_progress(self.reader)

    def read(self, partition: Partition, offset: int, limit: int) -> Sequence[Record]:
        """Committed and published records from `offset` on."""
        place = partition.topic, partition.number
        recent = self.tail.read(place, offset, limit, self._bounds.read_bytes) if limit > 0 else None
        if recent:
            return recent
        found = self.read_file(partition, offset, limit)
        if self._read_only and found:
            # Several views follow the same topic: the next one finds it here.
            self.tail.follow(place, found)
        return found

    def read_file(
        self, partition: Partition, offset: int, limit: int, bytes_max: int | None = None
    ) -> Sequence[Record]:
        """As `read`, past the memory: every record from the disk, verified."""
        try:
            return self._read_file(partition, offset, limit, bytes_max)
        except LogDamaged:
            # Perhaps the process that writes has removed records since we looked where they begin.
            self.refresh()
            now = self.partitions[partition.topic, partition.number]
            if (now.first, now.is_dense) == (partition.first, partition.is_dense):
                raise
            return self._read_file(now, offset, limit, bytes_max)

    def _read_file(
        self, partition: Partition, offset: int, limit: int, bytes_max: int | None
    ) -> Sequence[Record]:
        sql = partition.select + ' WHERE "offset" >= ? AND "offset" < ? ORDER BY "offset" LIMIT ?'
        start = max(offset, partition.first, partition.head)
        dense_from = start if partition.is_dense else None
        place = f"{partition.topic}/{partition.number}"
        with self.errors(place):
            rows = self.reader.execute(sql, (start, partition.next, limit))
            try:
                found = records.decode(
                    rows,
                    partition.topic,
                    partition.number,
                    partition.seed,
                    bytes_max or self._bounds.read_bytes,
                    dense_from,
                )
            finally:
                rows.close()
            if not found and limit > 0 and start < partition.next:
                raise records.Damage(start, f"no record from here to the end, {partition.next}")
        return found

    def latest(self, partition: Partition, key: bytes) -> Record | None:
        """The newest record of a key, by a scan from the end; runs in a thread, on its own connection."""
        sql = partition.select + ' WHERE key = ? AND "offset" < ? ORDER BY "offset" DESC LIMIT 1'
        with self.errors(f"{partition.topic}/{partition.number}"):
            rows = self._scanner.execute(sql, (key, partition.next)).fetchall()
            found = records.decode(rows, partition.topic, partition.number, partition.seed, 1)
        return found[0] if found else None

    def verify(self, partition: Partition, offsets: Sequence[int]) -> None:
        """These records have their checksums."""
        with self.errors(f"{partition.topic}/{partition.number}"):
            for row in self.reader.execute(f"{partition.select} {AMONG}", (json.dumps(offsets),)):
                records.verify(partition.seed, *row)

    def row_bytes(self, partition: Partition) -> float:
        """What a row takes on average, by the oldest ones and the newest."""
        size = "24 + length(headers) + coalesce(length(key), 0) + coalesce(length(value), 0)"
        ends = [
            f'SELECT * FROM (SELECT {size} AS bytes FROM {partition.table} ORDER BY "offset" {end})'
            for end in (f"LIMIT {SAMPLE}", f"DESC LIMIT {SAMPLE}")
        ]
        with self.errors():
            (average,) = self.reader.execute(
                f"SELECT avg(bytes) FROM ({' UNION ALL '.join(ends)})"
            ).fetchone()
        return average or 0.0

    def begin(self, time_ms: int) -> Transaction:
        """Start the one transaction there may be."""
        self._connection.execute("BEGIN IMMEDIATE")
        return Transaction(self._connection, self, time_ms)

    def commit(self) -> None:
        """Make the transaction durable: the one slow step."""
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction, if SQLite has not done so itself."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def published(self, written_bytes: int) -> None:
        """A commit is durable: count it, and write down that it will be acknowledged."""
        self.commits += 1
        self._unchecked_bytes += written_bytes + COMMIT_BYTES
        self.mark()

    def mark(self) -> None:
        """Note beside the file what it must have from now on."""
        if self._marks is not None:
            ends = tuple(partition.next for partition in self._by_id)
            self._marks.write(Mark(self.identity, self.commits, ends))

    def needs_checkpoint(self) -> bool:
        return self._unchecked_bytes >= self._bounds.checkpoint_bytes

    def checkpoint(self) -> None:
        """Copy the WAL into the file. A full disk only puts it off; any other error is raised."""
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_FULL:
                raise
        self._unchecked_bytes = 0

    def close(self) -> None:
        """Close the connections; SQLite's last one copies the WAL into the file and removes it."""
        self.reader.close()
        self._scanner.close()
        if self._marks is not None:
            self._marks.close()
            with self.errors():
                self._connection.close()


def load_partitions(connection: sqlite3.Connection) -> dict[Place, Partition]:
    """Every partition the file has, also of topics no longer asked for."""
    rows = connection.execute(
        'SELECT id, topic, "partition", first_offset, next_offset, compacted_below '
        "FROM partitions ORDER BY id"
    )
    found = {}
    for number_id, topic, number, first, following, compacted_below in rows:
        seed = records.seed_of(topic, number)
        table = table_of(topic, number)
        found[topic, number] = Partition(
            number_id, topic, number, table, seed, first, following, compacted_below
        )
    return found


def marks_path(path: Path) -> Path:
    """The sidecar of a file."""
    return path.with_suffix(".marks")
