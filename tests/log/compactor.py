"""A process that compacts a log, gives its free pages back, and says what it did; a test kills it midway.

KILL_AT_FOR_TESTS=compaction-piece:3 python -m tests.log.compactor <directory>
"""

import asyncio
import resource
import sys

from streams.log.interface import TopicSpec
from streams.log.sqlite import Bounds, open_log

TOPICS = (
    TopicSpec("events", 1, compacted=True, store="intake"),
    TopicSpec("facts", 1, store="ledger"),
)
# A test is in more of a hurry than a service.
HASTY = Bounds(compaction_share=1.0)


async def main(directory: str) -> None:
    log = await open_log(f"sqlite:///{directory}", TOPICS, bounds=HASTY)
    removed = await log.compact("events")
    given_bytes = await log.shrink()
    await log.close()
    print(removed, given_bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
