"""What a log does, whichever backend keeps it.

A log is a set of topics; a topic is a fixed number of partitions; a partition is a sequence of records
with rising offsets. Everything else in genledger stands on these few promises:

- `append` returns only when the records are durable.
- A `Writer` commits its messages and its source offset together or not at all, and is the only one:
  opening a writer refuses every later commit of the one before it with `Fenced`.
- Readers see only what is committed, in order of offset, and never a record without those before it.
- A record that does not have its checksum is never returned: `LogDamaged` says where it is.

Not promised: that offsets are without gaps (compaction removes records, the ends of transactions have
offsets of their own on Kafka), or that a batch read is full.

    log = await open_log(settings, topics.topic_table(4))
    await log.append([Message("generations", 2, b"gen-1", b"{...}")])
    records = await log.read("generations", 2, 0, limit=1000)
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

Headers = tuple[tuple[str, bytes], ...]


class Message(msgspec.Struct, frozen=True, gc=False):
    """What is to be written. The partition is the caller's to choose: `partition_of(key, n)`."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Record(msgspec.Struct, frozen=True, gc=False):
    """What was written: `time_ms` is the log's own clock when it took the record."""

    topic: str
    partition: int
    offset: int
    time_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class TopicSpec(msgspec.Struct, frozen=True):
    """A topic as it must be. `store` names the file it shares when the log is embedded.

    `taken_by` is the group of writers that must have taken a record before compaction may. The rest is
    for a cluster, which knows no such group and has a time instead: no record younger than
    `compaction_lag_ms_min` is compacted away, and none older than `compaction_lag_ms_max` waits for it.
    """

    name: str
    partitions: int
    compacted: bool = False
    retention_ms: int | None = None
    store: str = "intake"
    taken_by: str = ""
    compaction_lag_ms_min: int = 0
    compaction_lag_ms_max: int = 0
    batch_bytes_max: int = 8_388_608
    #: Whether a cluster's log is another one when this topic is: not one that older installations lack.
    identifies: bool = True


class TopicSize(msgspec.Struct, frozen=True):
    """How large a topic is, over all its partitions: see `streams/log/sizes.py`."""

    records: int
    size_bytes: int | None = None
    #: Records since the last whole pass of compaction, and when that ended where it is longest ago.
    appended: int = 0
    compacted_ms: int = 0


class Writer(Protocol):
    """The one writer of a source partition: its results and its progress, in one transaction."""

    async def commit(
        self, messages: Sequence[Message], offset: int, publish: Sequence[Message] = ()
    ) -> Mapping[tuple[str, int], int]:
        """Write all the messages and the next source offset; the last offset of each partition written.

        `publish` is what goes back onto the source topic: part of the transaction where the backend can,
        else durable before it begins, so that after a kill it may be there twice.

        Raises `Fenced` when another writer has taken over: then nothing was written. After
        `LogUnavailable` it may have been written or not: taking over again tells.
        """

    async def close(self) -> None: ...


class Failed(Protocol):
    """A future of the reason why something has failed."""

    def done(self) -> bool: ...

    def result(self) -> object: ...


class Log(Protocol):
    """A log. Every method may raise `LogError` or one of its kinds (see `streams.errors`)."""

    @property
    def failed(self) -> Failed:
        """Done when the log must not be used any more: then the process should end, saying why."""

    @property
    def identity(self) -> str:
        """Differs whenever the log is another one: recreated, or restored from elsewhere."""

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has; `UnknownTopic` when there is none of that name."""

    async def append(self, messages: Sequence[Message]) -> Sequence[int]:
        """Write messages durably; their offsets, in order.

        All messages of one call belong to topics of one store and are written together. Raises
        `LogFull` when too much waits or the disk has no room: nothing of the call was written.
        """

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[Record]:
        """Committed records from `offset` on, at most `limit` and at most the batch's bytes."""

    async def latest(self, topic: str, partition: int, key: bytes) -> Record | None:
        """The newest committed record of a key (a scan on some backends: not for the hot path)."""

    async def trim(self, topic: str, partition: int, offset: int) -> int:
        """Remove the records before an offset for good, never a partition's last; where it begins then.

        Nothing before the beginning is no error: asking again changes nothing.
        """

    def start_offset(self, topic: str, partition: int) -> int:
        """The offset of the first record there may be."""

    def end_offset(self, topic: str, partition: int) -> int:
        """Behind the last record, as far as is known: what is below it is committed or gone."""

    async def size(self, topic: str) -> TopicSize:
        """How large a topic is, as well as can be told at once."""

    async def nulls_from(self, topic: str, partition: int) -> int:
        """From this offset on every null of a compacted topic is still there: who has read up to here, or
        further, misses none. Who stopped before must begin again at the start.
        """

    async def refresh(self, topics: Iterable[str]) -> None:
        """Learn where these topics end now: what was committed anywhere before this is below the end."""

    async def wait(self, positions: Mapping[tuple[str, int], int], timeout_s: float) -> bool:
        """Sleep until any of the partitions has a record at or beyond its position."""

    async def committed(self, group: str, topic: str, partition: int) -> int | None:
        """The source offset from which the group's writer goes on; None when it never committed."""

    async def writer(self, group: str, topic: str, partition: int) -> Writer:
        """Take over a source partition: fences the writer before, then returns the new one."""

    async def close(self) -> None: ...
