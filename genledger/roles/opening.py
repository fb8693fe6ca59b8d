"""What every role begins with: the log, watched; and on a cluster who there is, kept up to date.

log = await open_watched(settings, watch, stack)
log, directory = await open_cluster(settings, watch, stack)      # a role of its own
"""

from contextlib import AsyncExitStack

from genledger.roles.upkeep import start_upkeep
from genledger.watch import Watch
from streams.directory import Directory
from streams.errors import GenledgerError
from streams.log.backends import is_embedded, open_log
from streams.log.interface import Log
from streams.log.kafka.log import KafkaLog
from streams.settings import Settings


async def open_watched(
    settings: Settings, watch: Watch, stack: AsyncExitStack, *, read_only: bool = False
) -> Log:
    """The log that the settings name; its failure is the process's, and it is closed with the stack."""
    log = await open_log(settings, read_only=read_only)
    stack.push_async_callback(log.close)
    watch.futures["the log"] = log.failed
    watch.log_identity = log.identity
    return log


async def open_cluster(settings: Settings, watch: Watch, stack: AsyncExitStack) -> tuple[KafkaLog, Directory]:
    """The same for a role that is a process of its own: `GenledgerError` on an embedded log."""
    if is_embedded(settings):
        raise GenledgerError("an embedded log has one process: run `genledger serve`")
    log = await open_watched(settings, watch, stack)
    assert isinstance(log, KafkaLog)
    directory = Directory(log)
    await directory.refresh()
    await start_upkeep(log, directory, watch, stack)
    return log, directory
