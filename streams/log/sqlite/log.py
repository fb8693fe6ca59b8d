"""The embedded log: the interface of `streams/log/interface.py` on local SQLite files.

    log = await open_log("sqlite:///data/log", topic_table(), clock=now_ms)
    writer = await log.writer("ledger", "generations", 0)
    await writer.commit([Message("usage", 0, b"gen-1", b"{...}")], offset=1)
    log.failed.add_done_callback(lambda failed: stop_the_process(failed.result()))

A directory holds one file for each store, with its marks, and a lock: one process writes a log, others may
open it `read_only` meanwhile.

| module        | is                                                                     |
| ------------- | ---------------------------------------------------------------------- |
| opening       | the directory: which files there must be, making them, their identity  |
| check, marks  | what is verified before the first write                                |
| store         | one open file; reading                                                 |
| transaction   | one transaction of a file                                              |
| committer     | group commit: who waits, who shares an fsync, what an error means      |
| tail          | the newest records in memory                                           |
| compaction    | what may leave a partition, piece by piece                             |
| newest        | the newest offset of each key, for a pass of compaction                |
| trimming      | the head of a partition goes, by order                                 |
| records       | a record as a row, with its checksum                                   |
| copy          | copies of the files while they are written; a log made of copies       |
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from streams import faultpoints
from streams.clock import Clock, monotonic_s, now_ms
from streams.errors import LogError, UnknownTopic
from streams.log.interface import Headers, Message, Record, TopicSize, TopicSpec
from streams.log.sqlite.bounds import Bounds
from streams.log.sqlite.committer import Committer
from streams.log.sqlite.compaction import Compactor
from streams.log.sqlite.lock import Lock
from streams.log.sqlite.opening import WRITERS_STORE, Opened, directory_of, open_to_read, open_to_write
from streams.log.sqlite.records import encode_headers, size_of
from streams.log.sqlite.store import Store
from streams.log.sqlite.transaction import Cleaned, Partition, Transaction, WriterKey
from streams.syncing import run_in_thread

_READ_ONLY = "the log is open for reading only: send the command to the service"


async def open_log(
    url: str,
    topics: Sequence[TopicSpec],
    *,
    clock: Clock = now_ms,
    bounds: Bounds | None = None,
    read_only: bool = False,
) -> "SqliteLog":
    """Check the files, make what is missing, and open them.

    Raises `LogBusy` when another process writes the log, `LogDamaged` when acknowledged bytes are missing or
    wrong, `LogMismatch` when it is another log than asked for.
    """
    directory = directory_of(url)
    bounds = bounds or Bounds()
    if read_only:
        opened = await asyncio.to_thread(open_to_read, directory, topics, bounds)
        return SqliteLog(opened, topics, clock, bounds, None)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LogError(
            f"{directory} can't be made: {error.strerror}. Name another folder with --data"
        ) from None
    lock = Lock(directory)
    try:
        opened = await asyncio.to_thread(open_to_write, directory, topics, bounds)
    except BaseException:
        lock.release()
        raise
    return SqliteLog(opened, topics, clock, bounds, lock)


class SqliteWriter:
    """The one writer of a source partition."""

    def __init__(self, log: "SqliteLog", key: WriterKey, epoch: int) -> None:
        self._log = log
        self._key = key
        self._epoch = epoch
        self._published: Sequence[Message] = ()
        self._closed = False

    async def commit(
        self, messages: Sequence[Message], offset: int, publish: Sequence[Message] = ()
    ) -> Mapping[tuple[str, int], int]:
        """All messages and the offset, in one transaction, or nothing of it (`Fenced`).

        What is published belongs to another file, so it is durable before: a commit that is tried again
        because the log was full does not publish again.
        """
        if self._closed:
            raise LogError(f"the writer of {self._key} is closed")
        if publish and publish is not self._published:
            await self._log.append(publish)
            faultpoints.reached("republished")
            self._published = publish
        return await self._log.commit(self._key, self._epoch, messages, offset)

    async def close(self) -> None:
        self._closed = True


class SqliteLog:
    """A log in a directory.

    `failed` gets the reason when the log must not be used any more: then the process should end, for only a
    restart can tell what is on disk.
    """

    def __init__(
        self, opened: Opened, topics: Sequence[TopicSpec], clock: Clock, bounds: Bounds, lock: Lock | None
    ) -> None:
        self._identity = opened.identity
        self._stores = opened.stores
        self._specs = {spec.name: spec for spec in topics}
        self._clock = clock
        self._bounds = bounds
        self._lock = lock
        self._moved = asyncio.Event()
        self._stopped: LogError | None = None
        self._closed = False
        self._scans = ThreadPoolExecutor(1, thread_name_prefix="log-scan")
        self.failed: asyncio.Future[LogError] = asyncio.get_running_loop().create_future()
        stores = {} if lock is None else opened.stores
        self._committers = {
            name: Committer(store, bounds, clock, self._wake, self._fail) for name, store in stores.items()
        }
        self._compactors = {
            name: Compactor(store, self._committers[name], bounds, self._scans, self._check_open)
            for name, store in stores.items()
        }

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def directory(self) -> Path:
        """Where its files are."""
        return next(iter(self._stores.values())).path.parent

    def partitions(self, topic: str) -> int:
        return self._spec(topic).partitions

    async def append(self, messages: Sequence[Message]) -> Sequence[int]:
        """Write messages durably, together; their offsets."""
        if not messages:
            return []
        headers, size_bytes = self._weigh(messages)
        committer = self._committer(self._store_of(messages))
        slices = self._bounds.slice_records

        async def work(tx: Transaction) -> list[int]:
            return await _write(tx, messages, headers, slices)

        return await committer.run(work, len(messages), size_bytes)

    async def commit(
        self, key: WriterKey, epoch: int, messages: Sequence[Message], offset: int
    ) -> Mapping[tuple[str, int], int]:
        """A writer's messages and its source offset; the last offset of each partition written."""
        headers, size_bytes = self._weigh(messages)
        if messages and self._store_of(messages) != WRITERS_STORE:
            raise LogError(f"a writer's messages belong to topics of the store {WRITERS_STORE!r}")
        slices = self._bounds.slice_records

        async def work(tx: Transaction) -> list[int]:
            tx.advance(key, epoch, offset)
            offsets = await _write(tx, messages, headers, slices)
            faultpoints.reached("transaction-open")
            return offsets

        offsets = await self._committer(WRITERS_STORE).run(work, len(messages), size_bytes)
        places = ((message.topic, message.partition) for message in messages)
        return dict(zip(places, offsets, strict=True))

    async def writer(self, group: str, topic: str, partition: int) -> SqliteWriter:
        self._partition(topic, partition)
        key = group, topic, partition

        async def work(tx: Transaction) -> int:
            return tx.take_over(key)

        return SqliteWriter(self, key, await self._committer(WRITERS_STORE).run(work))

    async def committed(self, group: str, topic: str, partition: int) -> int | None:
        return self._progress(group, topic, partition)

    def _progress(self, group: str, topic: str, partition: int) -> int | None:
        self._partition(topic, partition)
        store = self._stores[WRITERS_STORE]
        store.refresh()
        progress = store.progress.get((group, topic, partition))
        return None if progress is None else progress.offset

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[Record]:
        store, found = self._partition(topic, partition)
        return store.read(found, offset, limit)

    async def latest(self, topic: str, partition: int, key: bytes) -> Record | None:
        store, found = self._partition(topic, partition)
        return await run_in_thread(self._scans, lambda: store.latest(found, key))

    def start_offset(self, topic: str, partition: int) -> int:
        return self._partition(topic, partition)[1].first

    def end_offset(self, topic: str, partition: int) -> int:
        return self._partition(topic, partition)[1].next

    async def refresh(self, topics: Iterable[str]) -> None:
        """Nothing: every look at a file is at what it holds now."""

    async def wait(self, positions: Mapping[tuple[str, int], int], timeout_s: float) -> bool:
        """Woken by commits of this process; a read-only log looks again every `poll_ms`."""
        deadline_s = monotonic_s() + timeout_s
        while True:
            moved = self._moved
            if any(self.end_offset(*place) > position for place, position in positions.items()):
                return True
            left_s = deadline_s - monotonic_s()
            if left_s <= 0:
                return False
            nap_s = left_s if self._committers else min(left_s, self._bounds.poll_ms / 1000)
            try:
                async with asyncio.timeout(nap_s):
                    await moved.wait()
            except TimeoutError:
                continue

    async def trim(self, topic: str, partition: int, offset: int) -> int:
        """Remove the records before an offset, never the last; where the partition begins then."""
        _, found = self._partition(topic, partition)
        await self._compactor(self._spec(topic).store).trim(found, offset)
        return found.first

    async def nulls_from(self, topic: str, partition: int) -> int:
        """Compaction removes only nulls that a whole pass before it has seen, below where that ended."""
        return self._partition(topic, partition)[1].compacted_below

    async def compact(self, topic: str, below: Mapping[int, int] | None = None) -> int:
        """Superseded records of a compacted topic, or those older than its retention; how many went.

        With `below`, only what stands before an offset is judged in each partition, and a partition that it
        does not name is left alone: so far its readers have it for good.
        """
        spec = self._spec(topic)
        compactor = self._compactor(spec.store)
        removed = 0
        for number in range(spec.partitions):
            _, partition = self._partition(topic, number)
            if spec.compacted and (below is None or number in below):
                horizon = self._horizon(spec, partition)
                if below is not None:
                    horizon = min(horizon, below[number])
                removed += await compactor.compact(partition, horizon, self._clock())
            if spec.retention_ms is not None:
                removed += await compactor.expire(partition, self._clock() - spec.retention_ms)
        return removed

    async def shrink(self) -> int:
        """Give the free pages of every file back, save some that stay for what comes; how many bytes."""
        self._check_open()
        return sum([await compactor.shrink() for compactor in self._compactors.values()])

    async def size(self, topic: str) -> TopicSize:
        """By offsets, by what the last pass left, and by the average of some rows."""
        records = size_bytes = appended = 0
        times_ms = []
        for number in range(self._spec(topic).partitions):
            store, partition = self._partition(topic, number)
            cleaned = store.cleaned.get((topic, number), Cleaned())
            new = partition.next - max(partition.first, cleaned.below)
            records += cleaned.kept + new
            appended += new
            size_bytes += int((cleaned.kept + new) * store.row_bytes(partition))
            times_ms.append(cleaned.done_ms)
        return TopicSize(records, size_bytes, appended, min(times_ms))

    def _horizon(self, spec: TopicSpec, partition: Partition) -> int:
        """Up to where records may be judged."""
        if not spec.taken_by:
            return partition.next
        # What its reader has not taken yet has a fate to come, whatever is newer under its key.
        return self._progress(spec.taken_by, spec.name, partition.number) or partition.first

    async def close(self) -> None:
        """Finish what waits, close the files, let go of the lock. Closing twice does nothing more."""
        if self._closed:
            return
        self._closed = True
        self._stopped = self._stopped or LogError("the log is closed")
        self._wake()
        try:
            for compactor in self._compactors.values():
                await compactor.close()
            await asyncio.to_thread(self._scans.shutdown)
            for committer in self._committers.values():
                await committer.close()
            if not self._committers:
                for store in self._stores.values():
                    store.close()
        finally:
            if self._lock is not None:
                self._lock.release()

    def _spec(self, topic: str) -> TopicSpec:
        self._check_open()
        try:
            return self._specs[topic]
        except KeyError:
            raise UnknownTopic(f"there is no topic {topic!r}; there are {', '.join(self._specs)}") from None

    def _partition(self, topic: str, number: int) -> tuple[Store, Partition]:
        spec = self._spec(topic)
        store = self._stores[spec.store]
        store.refresh()
        try:
            return store, store.partitions[topic, number]
        except KeyError:
            raise LogError(f"{topic} has partitions 0..{spec.partitions - 1}, not {number}") from None

    def _weigh(self, messages: Sequence[Message]) -> tuple[list[bytes], int]:
        """The encoded headers of all messages, and the bytes of everything: refused here, if at all."""
        try:
            headers = _encoded(messages)
        except (TypeError, ValueError) as error:
            raise LogError(f"headers must be pairs of text and bytes: {error}") from error
        return headers, sum(map(size_of, messages, headers))

    def _store_of(self, messages: Sequence[Message]) -> str:
        """The one store of all the messages' topics."""
        places = {(message.topic, message.partition) for message in messages}
        for place in places:
            self._partition(*place)
        stores = {self._specs[topic].store for topic, _ in places}
        if len(stores) > 1:
            raise LogError(f"messages of one call belong to one store, not to {', '.join(sorted(stores))}")
        return stores.pop()

    def _committer(self, store: str) -> Committer:
        self._check_open()
        try:
            return self._committers[store]
        except KeyError:
            raise LogError(_READ_ONLY) from None

    def _compactor(self, store: str) -> Compactor:
        if store not in self._compactors:
            raise LogError(_READ_ONLY)
        return self._compactors[store]

    def _check_open(self) -> None:
        if self._stopped is not None:
            raise LogError(str(self._stopped)) from self._stopped

    def _wake(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def _fail(self, reason: LogError) -> None:
        """A file can't be trusted any more: nothing of the log may be used, not the other files either."""
        self._stopped = self._stopped or reason
        for committer in self._committers.values():
            committer.refuse_all(reason)
        if not self.failed.done():
            self.failed.set_result(reason)
        self._wake()


def _encoded(messages: Sequence[Message]) -> list[bytes]:
    """The encoded headers of each message. Most share one tuple, which is encoded once."""
    encoded: list[bytes] = []
    last: Headers | None = None
    raw = b""
    for message in messages:
        if message.headers is not last:
            last = message.headers
            raw = encode_headers(last)
        encoded.append(raw)
    return encoded


async def _write(
    tx: Transaction, messages: Sequence[Message], headers: Sequence[bytes], slice_records: int
) -> list[int]:
    """Insert in slices, so that the event loop has its turn between them."""
    offsets = tx.write(messages[:slice_records], headers[:slice_records])
    for start in range(slice_records, len(messages), slice_records):
        await asyncio.sleep(0)
        end = start + slice_records
        offsets += tx.write(messages[start:end], headers[start:end])
    return offsets
