"""Conflicts, looked at again and again: that two organisations claim one id must ring though nobody asks.

await start_conflicts(queries, watch, stack)
"""

import asyncio
import logging
from contextlib import AsyncExitStack

from genledger.roles.tasks import keep
from genledger.watch import Watch
from projections.queries import Queries
from streams import clock
from streams.errors import GenledgerError

EVERY_S = 3.0
RECENT_S = 86_400

_logger = logging.getLogger("genledger")


async def start_conflicts(queries: Queries, watch: Watch, stack: AsyncExitStack) -> None:
    """Begin, and end with the stack."""
    recent = taken_over = 0

    async def look() -> None:
        nonlocal recent, taken_over
        while True:
            try:
                recent, taken_over = await queries.conflicts_since(clock.now_ms() // 1000 - RECENT_S)
            except GenledgerError as error:  # the next look may find the tables there again
                _logger.debug("the conflicts can't be read: %s", error)
            await asyncio.sleep(EVERY_S)

    keep(look(), "the look at the conflicts", watch, stack)
    watch.alarms["conflicts"] = lambda: alarm_of(recent, taken_over)


def alarm_of(recent: int, taken_over: int) -> str:
    """What an operator should look at; '' while there is nothing. Pure."""
    if not recent:
        return ""
    what = "1 generation id was" if recent == 1 else f"{recent} generation ids were"
    granted = f", {taken_over} of them taken over by a read-back" if taken_over else ""
    return f"{what} claimed by another organisation in the last 24 hours{granted}: see `genledger conflicts`"
