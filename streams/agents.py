"""The ledger agent, and the step it takes for each batch.

    ledger = Ledger(log, table, rules, directory)
    await ledger.take(batch)

A step: read what is known of the batch's keys, decide each record in order, publish winners again, commit
facts, rejected records, changelog and source offset in one transaction, and write the local store last.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from streams import decider, fact, faultpoints, metrics, topics
from streams.decider import Decider
from streams.directory import Directory
from streams.errors import Fenced, LogFull, LogMismatch, LogUnavailable
from streams.fact import Fact
from streams.log.batches import Batch
from streams.log.ends import last_record
from streams.log.interface import Log, Message, Record, Writer
from streams.rules import Rules

T = TypeVar("T")

# The log's queue empties in milliseconds; a disk, when somebody makes room.
BUSY_RETRY_S = 0.02
FULL_RETRY_S = 1.0
TAIL_RECORDS = 1000

_logger = logging.getLogger("genledger.ledger")


class Table(decider.Table, Protocol):
    """What the ledger needs of its table."""

    def write(self, partition: int, changes: Mapping[bytes, bytes | None], next_offset: int) -> None: ...


class Ledger:
    """Decides the records of the partitions that this process has."""

    def __init__(self, log: Log, table: Table, rules: Rules, directory: Directory) -> None:
        self._log = log
        self._table = table
        self._decider = Decider(table, rules, log.partitions(topics.GENERATIONS))
        self._directory = directory
        self._writers: dict[int, Writer] = {}
        self._next: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        self._lost: set[int] = set()
        self.full = False
        #: Called when a partition can't go on here: the group has to share it out again.
        self.lost: Callable[[int], None] = lambda _partition: None

    def next_offset(self, partition: int) -> int:
        """The source offset that will be decided next."""
        return self._next.get(partition, 0)

    def partitions(self) -> Sequence[int]:
        """The partitions that are ours."""
        return sorted(self._next)

    async def take_over(self, partition: int) -> int:
        """Become the partition's only writer; where to go on from. Fences first, then reads.

        The last fact says what was decided last; the committed offset, of the same transaction, is a check
        of it, for a cluster forgets the offsets of a group that was away for a week.
        """
        await self.release([partition])
        self._writers[partition] = await self._log.writer(topics.LEDGER_GROUP, topics.GENERATIONS, partition)
        committed = await self._log.committed(topics.LEDGER_GROUP, topics.GENERATIONS, partition)
        await self._log.refresh([topics.USAGE])
        last = await self._last_fact(partition)
        if last is not None:
            await self._check_source(last)
            self._next[partition] = last.offset + 1
            self._numbers[partition] = last.number or last.offset + 1
        else:
            # Facts that were there and have gone went behind a snapshot; a topic that never had one says
            # that nothing was decided yet.
            start = self._log.start_offset(topics.GENERATIONS, partition)
            had_facts = self._log.end_offset(topics.USAGE, partition) > 0
            self._next[partition] = self._numbers[partition] = (had_facts and committed) or start
        if committed is not None and committed > self._next[partition]:
            raise LogMismatch(
                f"partition {partition} was decided up to {committed}, but the facts end at"
                f" {self._next[partition]}: facts are missing from the log, or somebody moved the offset"
            )
        await self._check_complete(partition, last, committed)
        self._lost.discard(partition)
        return self._next[partition]

    async def _check_complete(self, partition: int, last: Fact | None, committed: int | None) -> None:
        """Facts and what is known of ids come from the same transactions: neither is without the other."""
        await self._log.refresh([topics.SEEN_CHANGELOG])
        # Only a record says so: what a former owner's transaction left when it was ended reaches as far.
        first = self._log.start_offset(topics.SEEN_CHANGELOG, partition)
        is_known = bool(await self._log.read(topics.SEEN_CHANGELOG, partition, first, 1))
        if last is None and committed is None and is_known:
            raise LogMismatch(
                f"partition {partition} of {topics.USAGE} is empty, and {topics.SEEN_CHANGELOG} is not: facts"
                " are missing, and nothing would count again. Restore them: see docs/operating.md"
            )
        if last is not None and not is_known and await self._has_counted(partition):
            raise LogMismatch(
                f"partition {partition} of {topics.SEEN_CHANGELOG} is empty, and {topics.USAGE} is not: what"
                " is known of ids is missing, and each would count again. Restore it: see docs/operating.md"
            )

    async def _has_counted(self, partition: int) -> bool:
        """Whether any record of a partition left something known: of mere rubbish nothing is."""
        offset = self._log.start_offset(topics.USAGE, partition)
        while found := await self._log.read(topics.USAGE, partition, offset, TAIL_RECORDS):
            facts = (fact.decode(record.value or b"", record.headers) for record in found)
            if any(one.plus is not None or one.fate == "horizon" for one in facts):
                return True
            offset = found[-1].offset + 1
        return False

    async def _check_source(self, last: Fact) -> None:
        """The record that was decided last is on the log still, unless compaction took it: no other is."""
        topic, partition = topics.GENERATIONS, last.partition
        await self._log.refresh([topic])
        found: Sequence[Record] = ()
        if self._log.end_offset(topic, partition) > last.offset:
            found = await self._log.read(topic, partition, last.offset, 1)
        if not found or (found[0].offset == last.offset and found[0].time_ms != last.time_ms):
            raise LogMismatch(
                f"record {last.offset} of {topic}/{partition} was decided, and this log does not have it: it"
                " was cut back, recreated or restored. Put back the topic that these facts were made of, or"
                " begin anew under another GENLEDGER_TOPIC_PREFIX"
            )

    async def _last_fact(self, partition: int) -> Fact | None:
        """The newest fact of a partition."""
        newest = await last_record(self._log, topics.USAGE, partition)
        return None if newest is None else fact.decode(newest.value or b"", newest.headers)

    async def release(self, partitions: Iterable[int]) -> None:
        """Partitions are no longer ours: when this returns, nothing of them can be sent."""
        writers = [self._writers.pop(partition, None) for partition in partitions]
        for partition in partitions:
            self._next.pop(partition, None)
        await asyncio.gather(*(writer.close() for writer in writers if writer is not None))

    async def take(self, batch: Batch) -> None:
        """Decide a batch and commit what it comes to; a partition that another has taken is let go."""
        writer = self._writers.get(batch.partition)
        if writer is None or batch.partition in self._lost:
            return
        try:
            await self._take(batch, writer)
        except (Fenced, LogUnavailable) as error:
            # Whether it was written only a take-over can tell: ours, or that of whoever has it now.
            _logger.warning("partition %d is given back: %s", batch.partition, error)
            if self._writers.get(batch.partition) is writer:
                self._lost.add(batch.partition)
                self.lost(batch.partition)

    async def _take(self, batch: Batch, writer: Writer) -> None:
        partition = batch.partition
        if batch.start != self._next[partition]:
            raise LogMismatch(
                f"partition {partition} was read from {batch.start}, not {self._next[partition]}"
            )
        await self._directory.refresh()
        outcome = self._decider.decide(
            partition, batch.records, self._next[partition] - 1, self._numbers[partition]
        )
        changes = outcome.changes
        changelog = [Message(topics.SEEN_CHANGELOG, partition, key, value) for key, value in changes.items()]
        messages = [*outcome.facts, *outcome.rejected, *changelog]
        ends = await self._patiently(lambda: writer.commit(messages, batch.next_offset, outcome.publish))
        faultpoints.reached("transaction-committed")
        if changes:
            self._table.write(partition, changes, ends[topics.SEEN_CHANGELOG, partition] + 1)
        faultpoints.reached("store-written")
        self._next[partition] = batch.next_offset
        self._numbers[partition] += len(batch.records)
        for fate, count in outcome.fates.items():
            metrics.RECORDS.labels("ledger", fate).inc(count)

    async def _patiently(self, write: Callable[[], Awaitable[T]]) -> T:
        """Write; while the log is full, or its disk, wait: nothing was written, and nothing is lost."""
        while True:
            try:
                done = await write()
            except LogFull as error:
                self.full = error.disk
                await asyncio.sleep(FULL_RETRY_S if error.disk else BUSY_RETRY_S)
            else:
                self.full = False
                return done
