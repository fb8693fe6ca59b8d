"""One transaction of one file: records, writers' progress and compaction, all or nothing.

The changes reach memory (and readers) by `publish`, after the commit is durable; a transaction that is
rolled back leaves nothing behind.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Protocol
from zlib import crc32

import msgspec

from streams.errors import Fenced
from streams.log.interface import Message, Record
from streams.log.sqlite.records import RECORD_BYTES, Damage, Row, row_of
from streams.log.sqlite.tail import Tail

Place = tuple[str, int]
WriterKey = tuple[str, str, int]


class Partition(msgspec.Struct, eq=False):
    """A partition as it is committed. `first` to `next`, dense until it was compacted."""

    id: int
    topic: str
    number: int
    table: str
    seed: int
    first: int = 0
    next: int = 0
    compacted_below: int = 0
    #: In memory only, and set before records are removed: on a slow disk a reader may see that they have
    #: gone before the transaction is published. Nothing before `head` is read any more.
    has_gaps: bool = False
    head: int = 0

    @property
    def is_dense(self) -> bool:
        return self.compacted_below == 0 and not self.has_gaps

    @property
    def select(self) -> str:
        return f'SELECT "offset", time_ms, key, value, headers, crc FROM {self.table}'


class Cleaned(msgspec.Struct, frozen=True):
    """The last whole pass of compaction of a partition: up to where, how many records stay below, when."""

    below: int = 0
    kept: int = 0
    done_ms: int = 0


class Progress(msgspec.Struct, frozen=True):
    """A writer's epoch, and the source offset it committed last."""

    epoch: int
    offset: int | None


class Changed(msgspec.Struct):
    """What a transaction changes of a partition."""

    next: int
    first: int
    compacted_below: int


class Owner(Protocol):
    """The store as its transaction sees it."""

    partitions: "dict[Place, Partition]"
    progress: dict[WriterKey, Progress]
    cleaned: dict[Place, Cleaned]
    tail: Tail

    def published(self, written_bytes: int) -> None: ...


class Ending:
    """What is added to the end of one partition: rows for the file, records for the memory."""

    __slots__ = ("next", "partition", "records", "rows", "size_bytes")

    def __init__(self, partition: Partition, next_offset: int) -> None:
        self.partition = partition
        self.next = next_offset
        self.rows: list[Row] = []
        self.records: list[Record] = []
        self.size_bytes = 0

    def add(self, message: Message, headers: bytes, time_ms: int) -> int:
        """Add a record; its offset."""
        offset, partition = self.next, self.partition
        self.next = offset + 1
        key, value = message.key, message.value
        self.rows.append(row_of(message, headers, offset, time_ms, partition.seed))
        self.records.append(
            Record(partition.topic, partition.number, offset, time_ms, key, value, message.headers)
        )
        self.size_bytes += RECORD_BYTES + (len(key) if key else 0) + (len(value) if value else 0)
        return offset


class Transaction:
    """What has been done since `begin`, not yet visible to anyone."""

    def __init__(self, connection: sqlite3.Connection, owner: Owner, time_ms: int) -> None:
        self.connection = connection
        self._owner = owner
        self.time_ms = time_ms
        self._written_bytes = 0
        self._changed: dict[Place, Changed] = {}
        self._progress: dict[WriterKey, Progress] = {}
        self._endings: list[tuple[Place, Ending]] = []
        self._cleaned: dict[Place, Cleaned] = {}
        self._forgotten: dict[Place, int] = {}

    def change(self, place: Place) -> Changed:
        """The partition's state as this transaction will leave it."""
        changed = self._changed.get(place)
        if changed is None:
            now = self._owner.partitions[place]
            changed = self._changed[place] = Changed(now.next, now.first, now.compacted_below)
        return changed

    def write(self, messages: Sequence[Message], headers: Sequence[bytes]) -> list[int]:
        """Insert records, with their encoded headers, at the ends of their partitions; their offsets."""
        ends: dict[Place, Ending] = {}
        offsets = []
        for message, raw in zip(messages, headers, strict=True):
            place = message.topic, message.partition
            ending = ends.get(place)
            if ending is None:
                ending = ends[place] = Ending(self._owner.partitions[place], self.change(place).next)
            offsets.append(ending.add(message, raw, self.time_ms))
        for place, ending in ends.items():
            self.change(place).next = ending.next
            insert = f"INSERT INTO {ending.partition.table} VALUES (?, ?, ?, ?, ?, ?)"
            self.connection.executemany(insert, ending.rows)
            self._endings.append((place, ending))
        return offsets

    def forget_tail(self, partition: Partition, below: int) -> None:
        """Records are removed: what is kept of them in memory goes too, when this is committed."""
        self._forgotten[partition.topic, partition.number] = below

    def clean(self, partition: Partition, cleaned: Cleaned) -> None:
        """Write down that a whole pass has been made."""
        row = (partition.id, *msgspec.structs.astuple(cleaned))
        self.connection.execute(
            "INSERT OR REPLACE INTO compaction VALUES (?, ?, ?, ?, ?)", (*row, _crc_of(row))
        )
        self._cleaned[partition.topic, partition.number] = cleaned

    def take_over(self, key: WriterKey) -> int:
        """A new epoch for a writer: every commit of an older one will be refused."""
        now = self._progress_of(key)
        self._store_progress(key, Progress(now.epoch + 1, now.offset))
        return now.epoch + 1

    def advance(self, key: WriterKey, epoch: int, offset: int) -> None:
        """Move a writer's source offset; `Fenced`, with nothing done, when its epoch is not the newest."""
        now = self._progress_of(key)
        if now.epoch != epoch:
            group, topic, number = key
            raise Fenced(
                f"{topic}/{number} of group {group} has been taken over: this writer's epoch is {epoch}, "
                f"the newest {now.epoch}"
            )
        self._store_progress(key, Progress(epoch, offset))

    def seal(self, written_bytes: int) -> None:
        """The last statements before the commit: the counters."""
        self._written_bytes = written_bytes
        for (topic, number), changed in self._changed.items():
            self.connection.execute(
                "UPDATE partitions SET next_offset = ?, first_offset = ?, compacted_below = ? "
                'WHERE topic = ? AND "partition" = ?',
                (changed.next, changed.first, changed.compacted_below, topic, number),
            )
        self.connection.execute("UPDATE commits SET count = count + 1")

    def publish(self) -> None:
        """The commit is durable: let everyone see it."""
        for place, changed in self._changed.items():
            partition = self._owner.partitions[place]
            partition.next = changed.next
            partition.first = changed.first
            partition.compacted_below = changed.compacted_below
        for place, below in self._forgotten.items():
            self._owner.tail.forget_below(place, below)
        self._owner.cleaned.update(self._cleaned)
        for place, ending in self._endings:
            self._owner.tail.extend(place, ending.records, ending.size_bytes)
        self._owner.progress.update(self._progress)
        self._owner.published(self._written_bytes)

    def _progress_of(self, key: WriterKey) -> Progress:
        rows = self.connection.execute(_PROGRESS + _OF_ONE, key).fetchall()
        return _progress(rows[0])[1] if rows else Progress(0, None)

    def _store_progress(self, key: WriterKey, progress: Progress) -> None:
        row = (*key, progress.epoch, progress.offset, _crc(key, progress))
        self.connection.execute("INSERT OR REPLACE INTO writers VALUES (?, ?, ?, ?, ?, ?)", row)
        self._progress[key] = progress


_PROGRESS = 'SELECT "group", topic, "partition", epoch, source_offset, crc FROM writers'
_OF_ONE = ' WHERE "group" = ? AND topic = ? AND "partition" = ?'

_ProgressRow = tuple[str, str, int, int, int | None, int]


def load_progress(connection: sqlite3.Connection) -> dict[WriterKey, Progress]:
    """The progress of every writer there ever was."""
    return dict(_progress(row) for row in connection.execute(_PROGRESS))


def _progress(row: _ProgressRow) -> tuple[WriterKey, Progress]:
    group, topic, number, epoch, offset, crc = row
    key, progress = (group, topic, number), Progress(epoch, offset)
    if _crc(key, progress) != crc:
        raise Damage(offset or 0, f"the progress of writer {key} does not have its checksum")
    return key, progress


def load_cleaned(connection: sqlite3.Connection, partitions: Iterable[Partition]) -> dict[Place, Cleaned]:
    """The last whole pass over each partition; none in a file that was made before they were written down."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'compaction'").fetchall():
        return {}
    places = {partition.id: (partition.topic, partition.number) for partition in partitions}
    found = {}
    for *row, crc in connection.execute("SELECT id, below, kept, done_ms, crc FROM compaction"):
        number_id, below, kept, done_ms = row
        if _crc_of(tuple(row)) != crc:
            raise Damage(below, f"the last compaction of partition {number_id} does not have its checksum")
        found[places[number_id]] = Cleaned(below, kept, done_ms)
    return found


def _crc(key: WriterKey, progress: Progress) -> int:
    return _crc_of((key, progress.epoch, progress.offset))


def _crc_of(row: tuple[object, ...]) -> int:
    return crc32(msgspec.msgpack.encode(row))
