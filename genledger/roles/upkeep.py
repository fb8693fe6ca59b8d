"""What every process looks up again and again: where topics end, and who there is.

    await start_upkeep(log, directory, watch, stack)

Other processes write too: a key that one door has revoked must be refused by all of them within a second,
and lag is known only to who knows the ends.
"""

import asyncio
import logging
from contextlib import AsyncExitStack

from genledger.roles.tasks import keep
from genledger.watch import Part, Watch
from streams import topics
from streams.directory import Directory
from streams.errors import LogError
from streams.log.interface import Log

EVERY_S = 0.4

_logger = logging.getLogger("genledger")


Places = dict[tuple[str, int], int]


class Upkeep:
    """Looks, and remembers whether it could."""

    def __init__(self, log: Log, directory: Directory, watch: Watch) -> None:
        self._log = log
        self._directory = directory
        self._watch = watch
        self._stood: Places = {}
        self.trouble = ""

    async def go_on(self) -> None:
        """Look, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self._directory.refresh()
                await self._log.refresh([topics.GENERATIONS, topics.USAGE])
                await self._look_behind_markers()
                self.trouble = ""
            except LogError as error:
                if not self.trouble:  # once an outage, not once a look
                    _logger.warning("%s", error)
                self.trouble = "unavailable"

    async def _look_behind_markers(self) -> None:
        """Where a part stands before the end, and did so at the last look: are there records at all?

        On Kafka the end of a transaction is a marker, which nobody takes: to who does not read the partition
        himself it looks like a record that waits for ever.
        """
        waiting: Places = {}
        for part in self._watch.parts.values():
            for place, (position, end) in part.places().items():
                if end > position:
                    waiting[place] = max(position, waiting.get(place, 0))
        standing = {place: at for place, at in waiting.items() if self._stood.get(place) == at}
        self._stood = waiting
        if standing:
            await self._log.wait(standing, 0)


async def start_upkeep(log: Log, directory: Directory, watch: Watch, stack: AsyncExitStack) -> None:
    """Begin, and end with the stack."""
    upkeep = Upkeep(log, directory, watch)
    watch.parts["log"] = Part(dict, lambda: None, trouble=lambda: upkeep.trouble)
    keep(upkeep.go_on(), "the upkeep", watch, stack)
