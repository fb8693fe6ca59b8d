"""What one fetch brought of a partition: raw bytes, decoded as they are asked for.

    slice = Slice(topic, partition, offset, end, raw, aborted)
    records = slice.take(1000)
    slice.next_offset            # where to go on; beyond `end` of nothing when all was markers

Decoding is aiokafka's: checksums are verified, and of transactions only what was committed comes out.
"""

from collections.abc import Iterator, Sequence
from itertools import dropwhile, islice
from typing import Any

from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from streams.errors import LogDamaged
from streams.log.interface import Headers, Record
from streams.log.kafka.lenient import LenientRecords

NO_HEADERS: Headers = ()
# What nearly every record has, as aiokafka and as we have it: made once.
SCHEMA_LIST, SCHEMA_HEADERS = [("schema", b"1")], (("schema", b"1"),)


class _Records(PartitionRecords):
    """Yields our records, not aiokafka's: one object for each, not two."""

    def __iter__(self) -> Iterator[Record]:
        """The generator itself: aiokafka's own step around it takes as long as making the record."""
        records: Iterator[Record] = self._records_iterator
        return records

    def _consumer_record(self, tp: TopicPartition, record: Any) -> Record:
        headers = record.headers
        return Record(
            tp.topic,
            tp.partition,
            record.offset,
            record.timestamp,
            record.key,
            record.value,
            NO_HEADERS if not headers else SCHEMA_HEADERS if headers == SCHEMA_LIST else _headers(headers),
        )


def _headers(headers: Sequence[tuple[str, bytes | None]]) -> Headers:
    """A header may be null on Kafka; here it is empty."""
    return tuple((name, value or b"") for name, value in headers)


class Slice:
    """The records of one partition from an offset on. `end` is where the committed ones ended then."""

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        end: int,
        raw: bytes,
        aborted: Sequence[tuple[int, int]] | None,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.end = end
        self.size_bytes = len(raw)
        self._place = TopicPartition(topic, partition)
        self._raw = raw
        self._aborted = aborted
        self._records = self._decoded(MemoryRecords(raw), offset)
        self._source: Iterator[Record] = iter(self._records)
        self._head: list[Record] = []
        self._at_end = False

    @property
    def next_offset(self) -> int:
        """Behind what was taken, markers and aborted records included."""
        if self._head:
            return self._head[0].offset
        offset: int = self._records.next_fetch_offset
        return offset

    def has_records(self) -> bool:
        """Whether there is a record to take."""
        if not self._head:
            self._head = self._read(1)
        return bool(self._head)

    def take(self, limit: int) -> list[Record]:
        """The next records, at most `limit`."""
        head, self._head = self._head, []
        return head + self._read(limit - len(head))

    def _decoded(self, batches: Any, offset: int) -> _Records:
        return _Records(self._place, batches, self._aborted, offset, None, None, True, READ_COMMITTED)

    def _read(self, limit: int) -> list[Record]:
        if self._at_end:
            return []
        found: list[Record] = []
        try:
            try:
                found.extend(islice(self._source, limit))
            except UnicodeDecodeError:
                at = self._records.next_fetch_offset
                self._records = self._decoded(LenientRecords(self._raw), at)
                # From its first batch on, for what was aborted is told from there; what was taken is dropped.
                self._source = dropwhile(lambda record: record.offset < at, self._records)
                found.extend(islice(self._source, limit - len(found)))
            self._at_end = len(found) < limit
            return found
        except CorruptRecordException as error:
            at = self._records.next_fetch_offset
            raise LogDamaged(
                f"{self.topic}/{self.partition}@{at}: {error}; ask the cluster's owner"
            ) from None
