"""What every process looks up again and again: where topics end, and who there is.

    await start_upkeep(log, directory, stack)

Other processes write too: a key that one door has revoked must be refused by all of them within a second,
and lag is known only to who knows the ends.
"""

import asyncio
import logging
from contextlib import AsyncExitStack, suppress

from streams import topics
from streams.directory import Directory
from streams.errors import LogError
from streams.log.interface import Log

EVERY_S = 0.4

_logger = logging.getLogger("genledger")


async def start_upkeep(log: Log, directory: Directory, stack: AsyncExitStack) -> None:
    """Begin, and end with the stack."""
    task = asyncio.create_task(_keep_up(log, directory))

    async def stop() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(stop)


async def _keep_up(log: Log, directory: Directory) -> None:
    failing = False
    while True:
        await asyncio.sleep(EVERY_S)
        try:
            await directory.refresh()
            await log.refresh([topics.GENERATIONS, topics.USAGE])
            failing = False
        except LogError as error:
            if not failing:  # once an outage, not once a look
                _logger.warning("%s", error)
            failing = True
