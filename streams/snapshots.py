"""Where facts begin: the head of `usage` may have gone, and then a snapshot says what it had come to.

    manifest = await beginning(log)        # None while the facts stand from their first one on
    manifest.stood("usage", 2)             # the last fact of partition 2 that the snapshot has taken

On the topic `snapshots` the views' rows stand in chunks, under (number, table, chunk); the record `manifest`
names the newest snapshot that is whole and was checked. The fact at which a snapshot stands is never
deleted: whoever goes on from there can see that it is the same log.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from streams import fact, topics
from streams.errors import LogMismatch
from streams.log.interface import Log, Message, Record

SCHEMA = 1
MANIFEST = b"manifest"
LOOK_RECORDS = 64
LOOK_FACTOR = 4


class Stood(msgspec.Struct, frozen=True):
    """How far a snapshot's rows have come in one partition of a topic: the last record that is in them."""

    topic: str
    partition: int
    offset: int
    source_offset: int
    digest: str
    records: int


class Rows(msgspec.Struct, frozen=True):
    """What a snapshot holds of a table, and the digest of its chunks."""

    rows: int
    chunks: int
    digest: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot: what it holds and up to where, who made it of what, and whether it was checked.

    `until_ms`: every fact logged before then is in it, and none later. `first` is the offset of its first
    chunk. `digest` is that of all its tables, as `projections.digest` reckons it.
    """

    number: int
    log: str
    revision: str
    versions: Mapping[str, int]
    parts: tuple[str, ...]
    days: int
    until_ms: int
    made_ms: int
    vector: tuple[Stood, ...]
    tables: Mapping[str, Rows]
    digest: str
    first: int = -1
    checked_ms: int = 0
    schema: int = SCHEMA

    @property
    def facts(self) -> int:
        """How many facts its rows stand for."""
        return sum(one.records for one in self.vector if one.topic == topics.USAGE)

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return sum(table.rows for table in self.tables.values())

    @property
    def name(self) -> str:
        """What tells it from every other one."""
        return f"{self.number}:{self.digest}"

    def stood(self, topic: str, partition: int) -> Stood | None:
        """Where it stands in a partition; None when it has nothing of it."""
        return next((one for one in self.vector if (one.topic, one.partition) == (topic, partition)), None)

    def keys(self) -> Iterator[bytes]:
        """The keys of its chunks, in order."""
        for table, held in self.tables.items():
            for chunk in range(held.chunks):
                yield chunk_key(self.number, table, chunk)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Manifest)


def chunk_key(number: int, table: str, chunk: int) -> bytes:
    """The key of some rows of a snapshot.

    >>> chunk_key(3, "books", 0)
    b'3/books/0'
    """
    return f"{number}/{table}/{chunk}".encode()


def encode(manifest: Manifest) -> bytes:
    """A manifest as the topic keeps it."""
    return _encoder.encode(manifest)


def decode(value: bytes) -> Manifest:
    """What `encode` wrote; `LogMismatch` for a later version's."""
    schema = msgspec.json.decode(value).get("schema")
    if schema != SCHEMA:
        raise LogMismatch(f"a snapshot of schema {schema} is newer than this version: upgrade genledger")
    return _decoder.decode(value)


def manifest_message(manifest: Manifest) -> Message:
    """The record that makes a snapshot the one to begin from."""
    return Message(topics.SNAPSHOTS, 0, MANIFEST, encode(manifest))


def ended_message(key: bytes) -> Message:
    """The end of some rows of a snapshot that another has taken the place of."""
    return Message(topics.SNAPSHOTS, 0, key, None)


async def newest(log: Log) -> Manifest | None:
    """The newest snapshot that is whole and checked: read backwards, for its rows stand before it."""
    await log.refresh([topics.SNAPSHOTS])
    first, end = log.start_offset(topics.SNAPSHOTS, 0), log.end_offset(topics.SNAPSHOTS, 0)
    span = LOOK_RECORDS
    while end > first:
        at = max(first, end - span)
        found = await _last_manifest(log, at, end)
        if found is not None:
            return decode(found.value or b"")
        end, span = at, span * LOOK_FACTOR
    return None


async def _last_manifest(log: Log, at: int, end: int) -> Record | None:
    found = None
    while at < end:
        records: Sequence[Record] = await log.read(topics.SNAPSHOTS, 0, at, LOOK_RECORDS)
        if not records:
            break
        for record in records:
            if record.key == MANIFEST and record.offset < end:
                found = record
        at = records[-1].offset + 1
    return found


def gone(log: Log) -> Mapping[int, int]:
    """Where `usage` begins, of the partitions that don't begin with their first fact any more: as far as an
    opened log knows.
    """
    starts = {n: log.start_offset(topics.USAGE, n) for n in range(log.partitions(topics.USAGE))}
    return {n: start for n, start in starts.items() if start > 0}


async def beginning(log: Log) -> Manifest | None:
    """The snapshot that views must be begun from; None while all facts are there.

    `LogMismatch` when facts are missing that are in no snapshot, or the snapshot is not of this log.
    """
    starts = gone(log)
    if not starts:
        return None
    manifest = await newest(log)
    if manifest is None:
        n, start = next(iter(starts.items()))
        raise LogMismatch(
            f"{topics.USAGE}/{n} begins at {start}, and there is no snapshot of what was before: facts are"
            " missing, for it was cut back, recreated or restored. Restore it from a backup"
        )
    for n, start in starts.items():
        stood = manifest.stood(topics.USAGE, n)
        if stood is None or stood.offset < start:
            reached = "has nothing of it" if stood is None else f"reaches to {stood.offset}"
            raise LogMismatch(
                f"{topics.USAGE}/{n} begins at {start}, and snapshot {manifest.number} {reached}: the facts"
                " between are missing from the log. Restore it from a backup"
            )
    await check_stands(log, manifest)
    return manifest


async def check_stands(log: Log, manifest: Manifest) -> None:
    """The facts at which a snapshot stands are this log's; else `LogMismatch`."""
    for one in manifest.vector:
        if one.topic != topics.USAGE:
            continue  # of the settings compaction may have taken it
        records: Sequence[Record] = ()
        if one.offset < log.end_offset(one.topic, one.partition):
            records = await log.read(one.topic, one.partition, one.offset, 1)
        if not records or records[0].offset != one.offset or _differs(records[0], one):
            raise LogMismatch(
                f"snapshot {manifest.number} stands at {one.topic}/{one.partition}@{one.offset}, and this log"
                " does not have that fact: they don't belong together. Restore both from one backup"
            )


def _differs(record: Record, stood: Stood) -> bool:
    return fact.digest(record.value or b"") != stood.digest


async def facts_from_ms(log: Log, partitions: Sequence[int]) -> int | None:
    """From which log time on every fact of these partitions is there; None: from the first one on."""
    times = []
    for n in partitions:
        # A process that runs for long learns by reading that others have deleted what was before.
        first = await log.read(topics.USAGE, n, log.start_offset(topics.USAGE, n), 1)
        if first and log.start_offset(topics.USAGE, n) > 0:
            times.append(fact.decode(first[0].value or b"", first[0].headers).time_ms)
    return max(times, default=None)
