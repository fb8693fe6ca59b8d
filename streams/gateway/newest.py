"""Which of a topic's records that are alike is the newest, within a bounded memory.

    newest = Newest(log, topics.REJECTED, kept_headers)
    await newest.catch_up(0)
    newest.has(record)          # False when a later record has the same key, bytes and headers of its own

What it knows is read from the log, which is where it stands: each call reads only what has been added
since. It remembers the alikes that came last; of older ones every record passes for the newest, and
`truncated` says so.
"""

import asyncio
from collections.abc import Callable
from hashlib import blake2b

from streams.log.interface import Headers, Log, Record

# Some 200 bytes each: 20 MB at most, shared out evenly among the partitions.
REMEMBERED_MAX = 100_000
DIGEST_BYTES = 16
BATCH_RECORDS = 1000


class Newest:
    """The newest record of each kind, by partition. `headers` are those that tell two records apart."""

    def __init__(
        self,
        log: Log,
        topic: str,
        headers: Callable[[Record], Headers],
        remembered_max: int = REMEMBERED_MAX,
    ) -> None:
        self._log = log
        self._topic = topic
        self._headers = headers
        self._most = max(1, remembered_max // log.partitions(topic))
        self._next: dict[int, int] = {}
        self._offsets: dict[int, dict[bytes, int]] = {}  # the kinds seen last stand last
        self._lock = asyncio.Lock()
        self.truncated = False

    async def catch_up(self, partition: int) -> None:
        """Read what has been added to a partition; of a long one at first only its last part."""
        async with self._lock:
            end = self._log.end_offset(self._topic, partition)
            first = self._log.start_offset(self._topic, partition)
            if partition not in self._next:
                self._next[partition] = max(first, end - self._most)
                self.truncated |= self._next[partition] > first
            while self._next[partition] < end:
                batch = await self._log.read(self._topic, partition, self._next[partition], BATCH_RECORDS)
                if not batch:
                    break
                for record in batch:
                    self._take(record)
                self._next[partition] = batch[-1].offset + 1
                await asyncio.sleep(0)

    def has(self, record: Record) -> bool:
        """Whether no later record is known that is like this one."""
        offsets = self._offsets.get(record.partition, {})
        return offsets.get(self._digest(record), record.offset) <= record.offset

    def _take(self, record: Record) -> None:
        offsets = self._offsets.setdefault(record.partition, {})
        digest = self._digest(record)
        offsets.pop(digest, None)
        offsets[digest] = record.offset
        if len(offsets) > self._most:
            del offsets[next(iter(offsets))]
            self.truncated = True

    def _digest(self, record: Record) -> bytes:
        made = blake2b(digest_size=DIGEST_BYTES)
        parts = (record.key, record.value, *(part for header in self._headers(record) for part in header))
        for part in parts:
            data = part.encode() if isinstance(part, str) else part
            # Each part's length comes first, so that no two kinds run together.
            made.update(b"-" if data is None else b"%d:" % len(data))
            made.update(data or b"")
        return made.digest()
