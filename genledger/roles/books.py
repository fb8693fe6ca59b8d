"""The books, looked at again and again: a residue must ring though nobody asks.

await start_books(queries, ends, watch, stack)
"""

import asyncio
import logging
from contextlib import AsyncExitStack

from genledger.roles.tasks import keep
from genledger.watch import Watch
from projections.api import Ends, balances
from projections.queries import Queries
from streams import metrics
from streams.errors import GenledgerError

EVERY_S = 10.0

_logger = logging.getLogger("genledger")


async def start_books(queries: Queries, ends: Ends, watch: Watch, stack: AsyncExitStack) -> None:
    """Begin, and end with the stack."""
    residue = 0

    async def look() -> None:
        nonlocal residue
        while True:
            try:
                residue = sum(abs(row.residue) for row in await balances(queries, ends))
                metrics.BOOK_RESIDUE_RECORDS.set(residue)
            except GenledgerError as error:  # the next look may find the log, or the tables, there again
                _logger.debug("the books can't be read: %s", error)
            await asyncio.sleep(EVERY_S)

    keep(look(), "the look at the books", watch, stack)
    watch.alarms["the books"] = lambda: _alarm(residue)


def _alarm(residue: int) -> str:
    return f"{residue} records have no fate, or two: see `genledger books`" if residue else ""
