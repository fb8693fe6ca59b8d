"""The ledger agent, and the step it takes for each batch.

    ledger = Ledger(log, table, rules, directory)
    await ledger.take(batch)

A step: read what is known of the batch's keys, decide each record in order, publish winners again, commit
facts, rejected records, changelog and source offset in one transaction, and write the local store last.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from streams import fact, faultpoints, known, ledger, metrics, records, topics
from streams.directory import Directory
from streams.errors import LogFull, LogMismatch
from streams.known import Anything, Horizon
from streams.ledger import Here
from streams.log.batches import Batch
from streams.log.interface import Log, Message, Record, Writer
from streams.rules import Rules

T = TypeVar("T")

# The log's queue empties in milliseconds; a disk, when somebody makes room.
BUSY_RETRY_S = 0.02
FULL_RETRY_S = 1.0


class Table(Protocol):
    """What the ledger needs of its table."""

    def get_many(self, partition: int, keys: Sequence[bytes]) -> Sequence[bytes | None]: ...

    def write(self, partition: int, changes: Mapping[bytes, bytes | None], next_offset: int) -> None: ...


class Outcome:
    """What a batch comes to: filled record by record, written at once."""

    def __init__(self) -> None:
        self.facts: list[Message] = []
        self.rejected: list[Message] = []
        self.publish: list[Message] = []
        self.changes: dict[bytes, Anything | None] = {}
        self.fates: dict[str, int] = {}


class Ledger:
    """Decides the records of the partitions that this process has."""

    def __init__(self, log: Log, table: Table, rules: Rules, directory: Directory) -> None:
        self._log = log
        self._table = table
        self._rules = rules
        self._directory = directory
        self._partitions = log.partitions(topics.GENERATIONS)
        self._writers: dict[int, Writer] = {}
        self._next: dict[int, int] = {}
        self.full = False

    def next_offset(self, partition: int) -> int:
        """The source offset that will be decided next."""
        return self._next.get(partition, 0)

    async def take_over(self, partition: int) -> int:
        """Become the partition's only writer; where to go on from. Fences first, then reads."""
        self._writers[partition] = await self._log.writer(topics.LEDGER_GROUP, topics.GENERATIONS, partition)
        committed = self._log.committed(topics.LEDGER_GROUP, topics.GENERATIONS, partition)
        start = self._log.start_offset(topics.GENERATIONS, partition)
        self._next[partition] = start if committed is None else committed
        return self._next[partition]

    async def take(self, batch: Batch) -> None:
        """Decide a batch and commit what it comes to."""
        partition = batch.partition
        if batch.start != self._next[partition]:
            raise LogMismatch(
                f"partition {partition} was read from {batch.start}, not {self._next[partition]}"
            )
        await self._directory.refresh()
        outcome = self.decide(batch)
        if outcome.publish:
            await self._patiently(lambda: self._log.append(outcome.publish))
            faultpoints.reached("republished")
        changelog = [_changelog(partition, key, value) for key, value in outcome.changes.items()]
        messages = [*outcome.facts, *outcome.rejected, *changelog]
        writer = self._writers[partition]
        ends = await self._patiently(lambda: writer.commit(messages, batch.next_offset))
        faultpoints.reached("transaction-committed")
        if changelog:
            changes = {message.key or b"": message.value for message in changelog}
            self._table.write(partition, changes, ends[topics.SEEN_CHANGELOG, partition] + 1)
        faultpoints.reached("store-written")
        self._next[partition] = batch.next_offset
        for fate, count in outcome.fates.items():
            metrics.RECORDS.labels("ledger", fate).inc(count)

    def decide(self, batch: Batch) -> Outcome:
        """Every record of a batch, in order; what an earlier one changed is known to a later one."""
        partition = batch.partition
        horizon_key = records.horizon_key(partition)
        keys = list({record.key for record in batch.records if record.key is not None} | {horizon_key})
        values = dict(zip(keys, self._table.get_many(partition, keys), strict=True))
        outcome = Outcome()
        prev = self._next[partition] - 1
        here = self._here(partition, records.anything_of(values[horizon_key]))
        for record in batch.records:
            self._decide_one(record, prev, here, values, outcome)
            if record.key == horizon_key and horizon_key in outcome.changes:
                here = self._here(partition, outcome.changes[horizon_key])
            prev = record.offset
        return outcome

    def _here(self, partition: int, horizon: Anything | None) -> Here:
        found = horizon if isinstance(horizon, Horizon) else None
        return Here(partition, self._partitions, found, self._rules)

    def _decide_one(
        self, record: Record, prev: int, here: Here, values: Mapping[bytes, bytes | None], outcome: Outcome
    ) -> None:
        key = record.key
        if key is None:
            before = None
        elif key in outcome.changes:
            before = outcome.changes[key]
        else:
            before = records.anything_of(values[key])
        decision = ledger.decide(before, record, here)
        if key is not None and decision.known is not before and decision.known != before:
            outcome.changes[key] = decision.known
        value = fact.encode(ledger.fact_of(decision, record, prev))
        outcome.facts.append(Message(topics.USAGE, record.partition, key, value, fact.SCHEMA_HEADERS))
        outcome.publish.extend(decision.publish)
        if decision.keep_bytes:
            outcome.rejected.append(ledger.rejected_message(decision, record))
        outcome.fates[decision.fate] = outcome.fates.get(decision.fate, 0) + 1

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


def _changelog(partition: int, key: bytes, value: Anything | None) -> Message:
    encoded = None if value is None else known.encode(value)
    return Message(topics.SEEN_CHANGELOG, partition, key, encoded)
