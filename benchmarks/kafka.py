"""The Kafka of a run, and what a case finds on it afterwards.

    with running(base) as bootstrap:
        check_usage(bootstrap, prefix + "usage", deliveries=210_000, expected=traffic.totals())
        remove(bootstrap, prefix)

KAFKA_BOOTSTRAP names one that is there already; else a broker of one node is started in the run's folder and
ended with it. Whichever it is, a case's topics are deleted when it is over.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition

from benchmarks import BenchmarkFailed
from benchmarks.preload import PARTITIONS
from benchmarks.traffic import Totals
from streams import clock, fact
from tests.kafka.broker import Broker, BrokerFailed, NoKafka

FETCH_BYTES = 8 << 20
# So long nothing more comes: it is all that there is.
SETTLE_S = 5.0
NAMED = "KAFKA_BOOTSTRAP"
# As brokers have it by default: the tests', which can't wait, clean their logs at every turn.
_PROPERTIES = {"log.cleaner.backoff.ms": 15_000, "log.retention.check.interval.ms": 60_000}


@contextmanager
def running(base: Path) -> Iterator[str]:
    """Where clients connect."""
    named = os.environ.get(NAMED)
    if named:
        yield named
        return
    broker = Broker(base / "kafka", properties=_PROPERTIES)
    try:
        broker.start()
    except (BrokerFailed, NoKafka) as error:
        raise BenchmarkFailed(f"{error}; or name a cluster by {NAMED}") from None
    try:
        yield broker.bootstrap
    finally:
        broker.stop()


def remove(bootstrap: str, prefix: str) -> None:
    """Delete the topics of a case."""

    async def work() -> None:
        client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await client.start()
        try:
            names = [name for name in await client.list_topics() if name.startswith(prefix)]
            if names:
                await client.delete_topics(names)
        finally:
            await client.close()

    asyncio.run(work())


def check_usage(bootstrap: str, topic: str, records: int, expected: Totals) -> int:
    """One fact for each record, and they add up to what was sent; the log time of the last, in ms."""
    found, count, last_ms = asyncio.run(_read_usage(bootstrap, topic, records))
    if count != records:
        raise BenchmarkFailed(f"{records} records were sent, {topic} has {count} facts")
    if found != (expected, expected.cost_nano):
        raise BenchmarkFailed(f"{topic} adds up to {found}, sent was {expected}, marked up by 1")
    return last_ms


async def _read_usage(bootstrap: str, topic: str, records: int) -> tuple[tuple[Totals, int], int, int]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=FETCH_BYTES,
    )
    await consumer.start()
    try:
        places = [TopicPartition(topic, n) for n in range(PARTITIONS)]
        consumer.assign(places)
        sums, count, last_ms = [0, 0, 0, 0], 0, 0
        deadline_s = clock.monotonic_s() + SETTLE_S
        # A transaction's end is seen a moment after its offsets; and there may be more than there should.
        while clock.monotonic_s() < deadline_s and (count < records or not await _at_end(consumer, places)):
            for found in (await consumer.getmany(timeout_ms=100)).values():
                deadline_s = clock.monotonic_s() + SETTLE_S
                count += len(found)
                last_ms = max(last_ms, found[-1].timestamp)
                for record in found:
                    _add(sums, record.value)
    finally:
        await consumer.stop()
    return (Totals(*sums[:3]), sums[3]), count, last_ms


async def _at_end(consumer: AIOKafkaConsumer, places: Sequence[TopicPartition]) -> bool:
    ends = await consumer.end_offsets(places)
    return all([await consumer.position(place) >= ends[place] for place in places])


def _add(sums: list[int], value: bytes) -> None:
    for sign, entry in fact.effects(fact.decode(value)):
        sums[0] += sign * entry.requests
        sums[1] += sign * entry.total_tokens
        sums[2] += sign * (entry.cost_nano or 0)
        sums[3] += sign * (entry.markup_nano or 0)
