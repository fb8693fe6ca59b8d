"""The Faust table "seen": read in batches, written in batches, recovered in batches.

    values = table.get_many(partition, [b"gen-1"])
    table.write(partition, {b"gen-1": b"..."}, next_offset)    # after the changelog is committed

Setting a key as a Faust table is otherwise set is refused: inside a batch agent it would never commit.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import faust

from streams import faultpoints, topics
from streams.log.interface import Log
from streams.seen.store import Store

RECOVERY_LIMIT = 10_000
FLUSH_LOOK_S = 0.01


class SeenTable(faust.Table):
    """What is known of each key, by partition."""

    #: Called before a partition's changelog is read: fencing its former owner must come first.
    take_over: Callable[[int], Awaitable[int]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Partitions that are being read back: how far, and how far there is.
        self.recovering: dict[int, tuple[int, int]] = {}
        #: Rises with every step of every recovery, so that one can see that it goes on.
        self.steps = 0

    @property
    def _log(self) -> Log:
        log: Log = self.app.backend
        return log

    @property
    def _seen(self) -> Store:
        store = self.data
        assert isinstance(store, Store)
        return store

    def get_many(self, partition: int, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """The values of keys of one partition."""
        return self._seen.shelf(partition).get_many(keys)

    def write(self, partition: int, changes: Mapping[bytes, bytes | None], next_offset: int) -> None:
        """What the changelog has committed, up to and with the offset before `next_offset`."""
        self._seen.shelf(partition).write(changes, next_offset)

    def scan(self, partition: int, after: bytes | None, limit: int) -> Sequence[tuple[bytes, bytes]]:
        """The keys of one partition behind a key, with their values: for a walk in bounded steps."""
        return self._seen.shelf(partition).scan(after, limit)

    def tidy(self, partition: int) -> None:
        """After much of a partition has gone: the next walk would else pass over each key that is no more."""
        self._seen.shelf(partition).begin_flush()

    async def flush(self) -> Mapping[int, int] | None:
        """Bring what is in memory to the disk; up to which changelog offset each partition is there. None
        while a partition is read back, or when one was given away meanwhile: ask again later.

        Before the changelog is compacted: a kill brings a shelf back to its last flush, and a null that it
        had not kept then must still be in the changelog.
        """
        flushed = {}
        for partition, shelf in self._seen.shelves().items():
            flushed[partition] = shelf.next_offset
            shelf.begin_flush()
            while self._seen.shelves().get(partition) is shelf and shelf.is_flushing():  # noqa: ASYNC110
                await asyncio.sleep(FLUSH_LOOK_S)  # RocksDB tells nobody when it is done
        return None if self.recovering or flushed.keys() != self._seen.shelves().keys() else flushed

    def sizes(self) -> tuple[int, int]:
        """About how many ids there are, and how many bytes they take, of all our partitions."""
        found = [shelf.size() for shelf in self._seen.shelves().values()]
        return sum(ids for ids, _ in found), sum(size_bytes for _, size_bytes in found)

    def release(self, partitions: Iterable[int]) -> None:
        """Partitions are no longer ours: close their shelves. What is on disk shortens the next recovery."""
        for partition in partitions:
            self._seen.drop(partition)

    async def recover(self, partition: int) -> None:
        """Take a partition over, then bring it up to the end of its changelog."""
        await self.take_over(partition)
        self.steps += 1
        log = self._log
        await log.refresh([topics.SEEN_CHANGELOG])
        end = log.end_offset(topics.SEEN_CHANGELOG, partition)
        nulls_from = await log.nulls_from(topics.SEEN_CHANGELOG, partition)
        shelf = self._seen.open(partition, log.identity, end, nulls_from)
        try:
            while shelf.next_offset < end:
                self.recovering[partition] = (shelf.next_offset, end)
                records = await log.read(topics.SEEN_CHANGELOG, partition, shelf.next_offset, RECOVERY_LIMIT)
                if not records:  # the rest was compacted away
                    break
                changes = {record.key: record.value for record in records if record.key is not None}
                shelf.write(changes, records[-1].offset + 1)
                self.steps += 1
                faultpoints.reached("recovery")
        finally:
            self.recovering.pop(partition, None)
        self.steps += 1

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise TypeError("use SeenTable.write: a key set by itself would never be committed")

    def __delitem__(self, key: Any) -> NoReturn:
        raise TypeError("use SeenTable.write: a key deleted by itself would never be committed")
