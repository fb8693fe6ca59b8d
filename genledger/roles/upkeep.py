"""What every process looks up again and again: where topics end, and who there is.

    await start_upkeep(log, directory, watch, stack)

Other processes write too: a key that one door has revoked must be refused by all of them within a second,
and lag is known only to who knows the ends.
"""

import asyncio
import logging
from contextlib import AsyncExitStack, suppress

from genledger.watch import Part, Watch
from streams import topics
from streams.directory import Directory
from streams.errors import LogError
from streams.log.interface import Log

EVERY_S = 0.4

_logger = logging.getLogger("genledger")


class Upkeep:
    """Looks, and remembers whether it could."""

    def __init__(self, log: Log, directory: Directory) -> None:
        self._log = log
        self._directory = directory
        self.trouble = ""

    async def go_on(self) -> None:
        """Look, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self._directory.refresh()
                await self._log.refresh([topics.GENERATIONS, topics.USAGE])
                self.trouble = ""
            except LogError as error:
                if not self.trouble:  # once an outage, not once a look
                    _logger.warning("%s", error)
                self.trouble = "unavailable"


async def start_upkeep(log: Log, directory: Directory, watch: Watch, stack: AsyncExitStack) -> None:
    """Begin, and end with the stack."""
    upkeep = Upkeep(log, directory)
    watch.parts["log"] = Part(dict, lambda: None, trouble=lambda: upkeep.trouble)
    task = asyncio.create_task(upkeep.go_on())

    async def stop() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(stop)
