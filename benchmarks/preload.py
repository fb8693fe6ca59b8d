"""Topics that are full before a case begins: made with 4 partitions and one replica, records keyed by id.

    preload.make_topics(bootstrap, prefix + "usage", prefix + "sums")
    preload.fill(bootstrap, prefix + "generations", deliveries(traffic))     # makes the topic, too

A record goes where Kafka's own partitioner would put it (murmur2 of the key), in the order given.
"""

import asyncio
from collections.abc import Iterable

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks import BenchmarkFailed
from streams.log.partition import murmur2

PARTITIONS = 4
BATCH_BYTES = 1_000_000
# Batches on their way to the broker at once.
IN_FLIGHT = 16

Rows = Iterable[tuple[bytes, bytes]]


def make_topics(bootstrap: str, *names: str, compacted: bool = False) -> None:
    """Make topics with the broker's own time in their records."""
    asyncio.run(_make(bootstrap, names, compacted))


def fill(bootstrap: str, topic: str, rows: Rows) -> int:
    """Make a topic and write (key, value) rows to it; how many they were."""

    async def work() -> int:
        await _make(bootstrap, [topic], compacted=False)
        return await write(bootstrap, topic, rows)

    return asyncio.run(work())


async def _make(bootstrap: str, names: Iterable[str], compacted: bool) -> None:
    configs = {
        "cleanup.policy": "compact" if compacted else "delete",
        "retention.ms": "-1",
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(8 << 20),
    }
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        wanted = [NewTopic(name, PARTITIONS, 1, topic_configs=configs) for name in names]
        made = await client.create_topics(wanted)
    finally:
        await client.close()
    for topic, code, *rest in made.topic_errors:
        if code:
            raise BenchmarkFailed(f"the topic {topic} can't be made: {rest}")


async def write(bootstrap: str, topic: str, rows: Rows) -> int:
    """Write rows to a topic that is there; all are acknowledged by all replicas at the end."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_batch_size=BATCH_BYTES)
    await producer.start()
    builders = {n: producer.create_batch() for n in range(PARTITIONS)}
    sent: list[asyncio.Future[object]] = []
    count = 0
    try:
        for key, value in rows:
            count += 1
            n = (murmur2(key) & 0x7FFFFFFF) % PARTITIONS
            if builders[n].append(timestamp=None, key=key, value=value) is None:
                sent.append(await producer.send_batch(builders[n], topic, partition=n))
                builders[n] = producer.create_batch()
                builders[n].append(timestamp=None, key=key, value=value)
                if len(sent) >= IN_FLIGHT:
                    await asyncio.gather(*sent)
                    sent.clear()
        for n, builder in builders.items():
            if builder.record_count():
                sent.append(await producer.send_batch(builder, topic, partition=n))
        await asyncio.gather(*sent)
    finally:
        await producer.stop()
    return count
