"""The whole road in one process: the ledger and the views in one event loop, from the roles' own parts.

    python -m benchmarks.one_process 9102       # its metrics port; the rest is in the environment

Nothing of genledger deploys it so; it is measured beside both steps written by hand in one process.
"""

import os
import sys
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from genledger import process
from genledger.roles.ledger import LedgerPart
from genledger.roles.lookout import start_lookout
from genledger.roles.opening import open_cluster
from genledger.roles.seats import wait_for_seat
from genledger.roles.views import open_database, open_followers, path_of, start_followers
from genledger.watch import Watch
from projections import schema
from projections.agents import Full, Taken, measure
from streams import clock
from streams.settings import Settings, load


async def start(settings: Settings, watch: Watch, stack: AsyncExitStack) -> None:
    """What `genledger worker ledger` and `genledger worker summaries` start, on one log."""
    log, directory = await open_cluster(settings, watch, stack)
    path = path_of(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    schema.upgrade(path)
    database = await open_database(settings)
    stack.push_async_callback(database.close)
    followers = await open_followers(settings, database, log, _tell)
    await start_followers(followers, log, settings, watch, stack)
    ledger = LedgerPart(log, settings, directory, watch)
    await start_lookout("ledger", log, directory, settings, watch, stack, lookup=ledger.lookup)
    await wait_for_seat(log, settings, standby=False)
    await ledger.start(stack)


def _tell(told: Taken | Full) -> None:
    measure(told, clock.now_ms())


if __name__ == "__main__":
    given = load(os.environ, data=str(Path(os.environ["GENLEDGER_DATA"])), metrics_port=int(sys.argv[1]))
    sys.exit(process.run(given, partial(start, given)))
