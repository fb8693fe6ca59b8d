"""Where the partitions of a topic end now, for one who has read up to some place in each; the last record.

    ends = await ends_after(log, topics.GENERATIONS, {0: 120, 1: 98})    # {0: 123, 1: 98}

On a cluster the end is asked for, and may lie behind a transaction's marker, which takes an offset and is
no record. A reader who stands before nothing but markers has read everything: his place is the end.
"""

from collections.abc import Mapping

from streams.log.interface import Log, Record

TAIL_RECORDS = 1000


async def ends_after(log: Log, topic: str, nexts: Mapping[int, int]) -> Mapping[int, int]:
    """The end of every partition, with markers looked through from the next offset of each on."""
    await log.refresh([topic])
    partitions = range(log.partitions(topic))
    behind = {(topic, n): nexts.get(n, 0) for n in partitions if log.end_offset(topic, n) > nexts.get(n, 0)}
    if behind:
        await log.wait(behind, 0)
    return {n: log.end_offset(topic, n) for n in partitions}


async def last_record(log: Log, topic: str, partition: int) -> Record | None:
    """The newest record of a partition. The end may be markers, so look further and further back."""
    end, first = log.end_offset(topic, partition), log.start_offset(topic, partition)
    span, at = 1, end
    while at > first:
        at = max(first, end - span)
        newest, position = None, at
        while found := await log.read(topic, partition, position, TAIL_RECORDS):
            newest, position = found[-1], found[-1].offset + 1
        if newest is not None:
            return newest
        span *= 8
    return None
