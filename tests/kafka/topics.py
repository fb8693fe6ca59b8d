"""Topics for tests that bring their own: one replica, the brokers' time, room for large records.

await make_topics(settings, [TopicSpec("facts", 2)])
"""

from collections.abc import Mapping, Sequence

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.log.interface import TopicSpec
from streams.log.kafka.connect import client_options
from streams.settings import Settings

LARGEST_BYTES = 16 << 20


async def make_topics(
    settings: Settings, specs: Sequence[TopicSpec], configs: Mapping[str, str] | None = None
) -> None:
    """Make them on the cluster that the settings name, under their prefix."""
    client = AIOKafkaAdminClient(**client_options(settings))
    await client.start()
    try:
        made = await client.create_topics(
            [_new(settings.topic_prefix, spec, configs or {}) for spec in specs]
        )
        assert all(code == 0 for _, code, *_ in made.topic_errors), made.topic_errors
    finally:
        await client.close()


def _new(prefix: str, spec: TopicSpec, configs: Mapping[str, str]) -> NewTopic:
    found = {
        "cleanup.policy": "compact" if spec.compacted else "delete",
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(LARGEST_BYTES),
        **configs,
    }
    return NewTopic(prefix + spec.name, spec.partitions, 1, topic_configs=found)
