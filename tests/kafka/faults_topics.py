"""What tests do to an installation's topics behind its back: read them, compact them, delete them.

records = await read_all(bootstrap, f"{prefix}usage", partition=0)
await compact_soon(bootstrap, f"{prefix}seen-changelog")
await recreate(bootstrap, f"{prefix}usage", partitions=2)
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

GONE_S = 20.0
END = -1  # of records to delete: all that are there
# All of a changelog's settings: what is not given would fall back to the broker's own.
COMPACT_SOON = {
    "cleanup.policy": "compact",
    "message.timestamp.type": "LogAppendTime",
    "max.message.bytes": str(16 << 20),
    "segment.ms": "100",
    "min.cleanable.dirty.ratio": "0.001",
    "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": "100",
    "delete.retention.ms": "0",
}


@asynccontextmanager
async def _admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def read_all(bootstrap: str, topic: str, partition: int) -> Sequence[Any]:
    """Every committed record of a partition that is there now."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        place = TopicPartition(topic, partition)
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        [end] = (await consumer.end_offsets([place])).values()
        found: list[Any] = []
        while await consumer.position(place) < end:
            for records in (await consumer.getmany(place, timeout_ms=200)).values():
                found += records
        return found
    finally:
        await consumer.stop()


async def compact_soon(bootstrap: str, topic: str) -> None:
    """Let the cleaner take a topic at once: a segment is closed by the first append after 100 ms."""
    async with _admin(bootstrap) as admin:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=COMPACT_SOON)
        [answer] = await admin.alter_configs([resource])
    [(code, message, *_)] = answer.resources
    assert code == 0, message


async def delete(bootstrap: str, *topics: str) -> None:
    """Delete topics, and wait until they are gone."""
    async with _admin(bootstrap) as admin:
        response = await admin.delete_topics(list(topics))
        for _, code in response.topic_error_codes:
            assert code == 0, for_code(code)
        async with asyncio.timeout(GONE_S):
            while set(topics) & set(await admin.list_topics()):
                await asyncio.sleep(0.1)


async def cut(bootstrap: str, topic: str, partitions: int) -> None:
    """Remove every record that is there; what comes goes on from the same offsets."""
    async with _admin(bootstrap) as admin:
        await admin.delete_records(
            {TopicPartition(topic, n): RecordsToDelete(END) for n in range(partitions)}
        )


async def make(bootstrap: str, topic: str, partitions: int, configs: Mapping[str, str]) -> None:
    """Make a topic, as soon as the cluster has forgotten the one before it."""
    async with _admin(bootstrap) as admin, asyncio.timeout(GONE_S):
        while True:
            try:
                await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=dict(configs))])
                return
            except TopicAlreadyExistsError:
                await asyncio.sleep(0.2)


async def append(bootstrap: str, topic: str, partition: int, records: Sequence[Any]) -> None:
    """Write records again as they were read."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    try:
        for record in records:
            await producer.send(
                topic, record.value, record.key, partition=partition, headers=list(record.headers)
            )
        await producer.flush()
    finally:
        await producer.stop()
