"""The running views take over what `genledger replay` has rebuilt beside them.

    start_takeover(database, log, watch, stack)
    take_over(database, log, path)            # the same once, where nothing runs

The rebuilt file's name is the order: it lies there until the swap is done, whoever is killed meanwhile. What
can't be taken goes back to where it was built, with the reason beside it.
"""

import asyncio
import logging
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from genledger.roles.tasks import keep
from genledger.watch import Watch
from projections.rebuild.swap import swap
from projections.stores.sqlite import Database
from streams import clock
from streams.errors import GenledgerError
from streams.log.interface import Log

BUILT = "replay.db"
HANDED_OVER = "replay-done.db"
REFUSED = "replay-refused.txt"
LOOK_EVERY_S = 0.5

_logger = logging.getLogger("genledger.views")


def start_takeover(database: Database, log: Log, watch: Watch, stack: AsyncExitStack) -> None:
    """Look for a rebuilt file until the stack ends."""

    async def look() -> None:
        while True:
            if (database.path.with_name(HANDED_OVER)).exists():
                await take_over(database, log)
            await asyncio.sleep(LOOK_EVERY_S)

    keep(look(), "the takeover of rebuilt views", watch, stack)


async def take_over(database: Database, log: Log) -> str:
    """Swap what was handed over; '' or why that can't be."""
    started_s = clock.monotonic_s()
    built = database.path.with_name(HANDED_OVER)
    try:
        await swap(database, built, log)
    except GenledgerError as error:
        _logger.error("the rebuilt views can't be taken over: %s", error)
        # Away with the order first: the live views go on, whether there is room for the reason or not.
        built.rename(database.path.with_name(BUILT))
        with suppress(OSError):
            refused(database.path).write_text(str(error))
        return str(error)
    built.unlink()
    _logger.info("the views were replaced by rebuilt ones in %.1f s", clock.monotonic_s() - started_s)
    return ""


def refusal(database: Path) -> str:
    """Why the last one was refused, '' if it was not; said once."""
    if not database.with_name(BUILT).exists():
        return ""
    path = refused(database)
    reason = path.read_text() if path.exists() else ""
    path.unlink(missing_ok=True)
    return reason or "the rebuilt views were not taken over: the service's log says why"


def refused(database: Path) -> Path:
    """Where the reason of a refusal is left for the command."""
    return database.with_name(REFUSED)
