"""How large the topics are: records, and about how many bytes.

    sizes = await topic_sizes(log, topics.topic_table())
    sizes["generations"].records, sizes["generations"].size_bytes

Embedded, the records are counted by offsets and by what the last pass of compaction left, and the bytes are
that many times the average of the newest and the oldest rows: to count either exactly would be to read the
file. On a cluster they are offsets alone: a compacted topic has fewer records than that, and how many bytes
it takes only its brokers know (a right on the cluster, which no role of ours has).
"""

import asyncio
from collections.abc import Iterable, Mapping

from streams.log.interface import Log, TopicSize, TopicSpec


async def topic_sizes(log: Log, specs: Iterable[TopicSpec]) -> Mapping[str, TopicSize]:
    """The size of each topic; a turn of the event loop between two."""
    sizes = {}
    for spec in specs:
        sizes[spec.name] = await log.size(spec.name)
        await asyncio.sleep(0)
    return sizes
