"""Faust's transport over any log: `sqlite:///DIRECTORY`, registered under `faust.transports`.

There is no group: the process has every partition, and "joining" is a task that hands them over. The log
itself is given to the app (`app.backend`), which shares it between the roles of the process. Where a role
goes on from is the role's to say (`app.positions`): positions live with the data, never here.

The Kafka transport (streams/log/kafka/transport.py) adds membership in a group.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from faust.transport import base
from faust.types import TP, RecordMetadata

from streams.clock import monotonic_s
from streams.errors import LogUnavailable
from streams.log.batches import Batch, BatchConsumer
from streams.log.interface import Log, Message
from streams.log.partition import partition_of

UNAVAILABLE_RETRY_S = 0.5


class Consumer(BatchConsumer, base.Consumer):
    """Reads each assigned partition of its topics in batches."""

    consumer_stopped_errors: ClassVar[tuple[type[BaseException], ...]] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._forget_delivered()
        self._assigned: set[TP] = set()
        self._positions: dict[TP, int] = {}
        self._joined: asyncio.Future[None] | None = None
        #: Since when this process has had no partition; None while it has some.
        self.idle_since_s: float | None = monotonic_s()

    @property
    def _log(self) -> Log:
        log: Log = self.app.backend
        return log

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Take every partition of these topics, from a task: Faust waits for this call to return."""
        tps = {TP(topic, n) for topic in topics for n in range(self._log.partitions(topic))}
        if tps != self._assigned:
            self._joined = self.add_future(self._join(tps))

    def rejoin(self) -> None:
        """Give every partition back and take what is ours anew."""
        self._joined = self.add_future(self._join(set(self._assigned)))

    async def _join(self, tps: set[TP]) -> None:
        await self._let_go(self._assigned)
        await self._take(tps)

    async def _let_go(self, tps: set[TP]) -> None:
        """When this returns, nothing of these partitions is worked on, and nothing of them is sent."""
        self.app.on_rebalance_start()
        # From here on no batch that waits for its turn is begun: its writer is about to be closed.
        self.app.consumer_generation_id += 1
        if self.idle_since_s is None:
            self.idle_since_s = monotonic_s()
        for tp in tps:
            self._positions.pop(tp, None)
        await self.app.tables.recovery.give_up()
        await self.on_partitions_revoked(tps)
        await self.app.let_go(tps)

    async def _take(self, tps: set[TP]) -> None:
        self._assigned = tps
        if tps:
            self.idle_since_s = None
        self._forget_delivered()
        self.app.consumer_generation_id += 1
        await self.on_partitions_assigned(set(tps), self.app.consumer_generation_id)

    def drop(self, tp: TP) -> None:
        """Read no more of a partition that was lost, until it is assigned again."""
        self._positions.pop(tp, None)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Go to where the role says it stands."""
        self._positions = dict(await self.app.positions(self._assigned))
        self._forget_delivered()
        return self._positions

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109 -- Faust's
        wanted = {tp: self._positions[tp] for tp in active_partitions or () if tp in self._positions}
        if not wanted:
            await self.sleep(0.01)
            return {}
        try:
            return await self._read(wanted, timeout)
        except LogUnavailable as error:
            # Nothing is lost by waiting; the watchdog ends a wait without end.
            self.log.warning("%s", error)
            await self.sleep(UNAVAILABLE_RETRY_S)
            return {}

    async def _read(self, wanted: Mapping[TP, int], timeout: float) -> Any:  # noqa: ASYNC109
        await self._log.wait({(tp.topic, tp.partition): at for tp, at in wanted.items()}, timeout)
        found = {}
        for tp, start in wanted.items():
            if self._log.end_offset(tp.topic, tp.partition) <= start:
                continue
            records = await self._log.read(tp.topic, tp.partition, start, self.app.batch_records_max)
            if records and self._positions.get(tp) == start:
                self._positions[tp] = records[-1].offset + 1
                found[tp] = [Batch(tp.topic, tp.partition, start, records)]
        return found

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """A role's position lives with its data; a second copy here would only be a hint."""
        return True

    async def _seek(self, partition: TP, offset: int) -> None:
        self._positions[partition] = offset

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Go to these positions."""
        self._positions.update(partitions)

    def assignment(self) -> set[TP]:
        """The partitions this process has."""
        return self._assigned

    async def position(self, tp: TP) -> int | None:
        """What will be read next."""
        return self._positions.get(tp)

    def highwater(self, tp: TP) -> int:
        """The offset after the last record."""
        return self._log.end_offset(tp.topic, tp.partition)

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """The offsets after the last records."""
        return {tp: self.highwater(tp) for tp in partitions}

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """The offsets of the first records."""
        return {tp: self._log.start_offset(tp.topic, tp.partition) for tp in partitions}

    def topic_partitions(self, topic: str) -> int | None:
        """How many partitions a topic has."""
        return self._log.partitions(topic)

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int | None:
        """Where a key belongs."""
        return partition_of(key, self._log.partitions(topic)) if partition is None and key else partition

    async def create_topic(self, topic: str, partitions: int, replication: int, **kwargs: Any) -> None:
        """Topics are made when the log is opened, or by `genledger topics apply`, from one table."""

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)


class Producer(base.Producer):
    """Sends Faust's own messages (an agent's replies); the roles write through `Log` and `Writer`."""

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: Any,
        *,
        transactional_id: str | None = None,
    ) -> asyncio.Future[RecordMetadata]:
        """Append one message durably; the future is done when this returns."""
        log: Log = self.app.backend
        place = partition_of(key or b"", log.partitions(topic)) if partition is None else partition
        [offset] = await log.append([Message(topic, place, key, value)])
        done: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        done.set_result(RecordMetadata(topic, place, TP(topic, place), offset))
        return done

    async def send_and_wait(self, *args: Any, **kwargs: Any) -> RecordMetadata:
        """As `send`."""
        return await (await self.send(*args, **kwargs))

    async def flush(self) -> None:
        """Whatever was sent is durable already."""

    async def create_topic(self, topic: str, partitions: int, replication: int, **kwargs: Any) -> None:
        """Topics are made when the log is opened, or by `genledger topics apply`, from one table."""

    def key_partition(self, topic: str, key: bytes) -> TP:
        """Where a key belongs."""
        log: Log = self.app.backend
        return TP(topic, partition_of(key, log.partitions(topic)))


class Transport(base.Transport):
    """The parts, for Faust."""

    Consumer: ClassVar[type[Any]] = Consumer
    Producer: ClassVar[type[Any]] = Producer

    driver_version = "genledger log"
    default_port = 0
