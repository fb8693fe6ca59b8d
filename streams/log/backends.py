"""Opening the log that the settings name, embedded or on a cluster.

    log = await open_log(settings)
    stack.push_async_callback(log.close)

This is the one place that knows of both backends: everything behind it knows only `Log`.
"""

from streams import topics
from streams.log.interface import Log
from streams.log.kafka import log as kafka
from streams.log.sqlite import log as sqlite
from streams.log.sqlite.bounds import Bounds
from streams.settings import Settings

EMBEDDED = "sqlite:///"
POLL_MS = 5


def is_embedded(settings: Settings) -> bool:
    """Whether the log is files of this machine, with one process that writes them."""
    return settings.broker.startswith(EMBEDDED)


async def open_log(settings: Settings, *, read_only: bool = False) -> Log:
    """The log, ready to use. `read_only` is for a process beside the one that writes the files."""
    if is_embedded(settings):
        table = topics.topic_table(settings.partitions or topics.EMBEDDED_PARTITIONS)
        return await sqlite.open_log(
            settings.broker, table, bounds=_bounds(settings, read_only=read_only), read_only=read_only
        )
    partitions = settings.partitions or await kafka.partitions_there(settings, topics.GENERATIONS)
    return await kafka.open_log(settings, topics.topic_table(partitions))


def _bounds(settings: Settings, *, read_only: bool) -> Bounds:
    if read_only:
        return Bounds(read_bytes=settings.batch_bytes_max, poll_ms=POLL_MS)
    return Bounds(
        waiting_records=settings.append_records_max,
        waiting_bytes=settings.append_bytes_max,
        quick_check_bytes=settings.verify_bytes_max,
        check_records=settings.verify_records_max,
        read_bytes=settings.batch_bytes_max,
    )
