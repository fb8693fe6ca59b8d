"""The summaries worker: it keeps the views in one database, and answers for them.

    genledger worker summaries --metrics-port 9103

One process writes a database: a lock beside it says so. It needs no group: the partitions are all its own,
and where it goes on from stands in the database.
"""

import asyncio
from contextlib import AsyncExitStack, suppress
from functools import partial

from genledger.roles.lookout import start_lookout
from genledger.roles.looks import start_looks
from genledger.roles.opening import open_cluster
from genledger.roles.proofs import start_proofs
from genledger.roles.rebuilt import start_takeover
from genledger.roles.sizing import Sizing, table_sizes
from genledger.roles.trimming import start_trims
from genledger.roles.views import open_database, open_followers, path_of, start_followers, wal_alarm
from genledger.watch import Watch
from projections import api, schema
from projections.agents import Full, Taken, measure
from projections.queries import Queries
from streams import clock, topics
from streams.log.ends import ends_after
from streams.settings import Settings, points_kept


async def run(settings: Settings, watch: Watch, stack: AsyncExitStack) -> None:
    """Start the worker."""
    log, directory = await open_cluster(settings, watch, stack)
    path = path_of(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    schema.upgrade(path)
    watch.alarms["the views' database"] = lambda: wal_alarm(path, settings.wal_alarm_bytes)
    database = await open_database(settings)
    stack.push_async_callback(database.close)
    heard = Heard()
    followers = await open_followers(settings, database, log, heard)
    queries = await Queries.open(path)
    stack.push_async_callback(queries.close)
    await start_followers(followers, log, settings, watch, stack)
    start_takeover(database, log, watch, stack)
    start_proofs(settings, watch, stack)
    start_trims(settings, watch, stack)
    sizing = Sizing()
    sizing.tables = partial(table_sizes, path)
    sizing.start(watch, stack)
    ends = partial(ends_after, log, topics.GENERATIONS)
    await start_looks(queries, ends, settings, watch, stack)
    kept = points_kept(settings)
    routes = api.routes(queries, clock.now_ms, heard.wait_for_change, ends, kept)
    await start_lookout("summaries", log, directory, settings, watch, stack, routes=routes)


class Heard:
    """What the followers tell, as metrics, and as a call to those who wait for a change."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def __call__(self, told: Taken | Full) -> None:
        measure(told, clock.now_ms())
        if isinstance(told, Taken) and told.view == "summaries":
            self._changed.set()
            self._changed = asyncio.Event()

    async def wait_for_change(self, timeout_s: float) -> bool:
        """Until the summaries' rows have changed, or the time is over."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_s)
            return True
        return False
