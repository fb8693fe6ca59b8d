"""Is every id where it was? The number of partitions, once chosen, stays.

    await check_placement(log)      # LogMismatch when the topics have another number than they had

With another number most ids would belong to another partition, whose ledger does not know them: they
would count again. The facts themselves tell: each is in the partition that its id had when it was decided.
"""

from streams import fact, topics
from streams.errors import LogMismatch
from streams.log.interface import Log
from streams.log.partition import partition_of

# Of 20 ids in a partition that was one of 12, some 5 are still at home when there are 16: one is enough.
SAMPLES = 20
# Decided where they were found, wherever their id belongs.
ANYWHERE = frozenset(("rerouted", "horizon", "quarantined"))


async def check_placement(log: Log) -> None:
    """Look at the first facts of each partition."""
    partitions = log.partitions(topics.USAGE)
    for partition in range(partitions):
        start = log.start_offset(topics.USAGE, partition)
        for record in await log.read(topics.USAGE, partition, start, SAMPLES):
            if record.key is None or partition_of(record.key, partitions) == partition:
                continue
            if fact.decode(record.value or b"", record.headers).fate not in ANYWHERE:
                raise LogMismatch(
                    f"the id {record.key.decode(errors='replace')!r} was decided in partition {partition},"
                    f" and would belong elsewhere among {partitions}: the number of partitions was changed."
                    " Ids would count twice; make the topics anew with the old number"
                )
