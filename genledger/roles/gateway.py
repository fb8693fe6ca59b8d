"""The gateway: the door before a cluster. It keeps nothing, so there may be as many as are needed.

    genledger gateway --port 8787 --metrics-port 9101

What it can't know it asks: ledger workers for their ids, the summaries worker for the views.
"""

from contextlib import AsyncExitStack

from aiohttp import web

from genledger.roles.door import start_door
from genledger.roles.lookout import start_lookout
from genledger.roles.upkeep import start_upkeep
from genledger.watch import Watch
from projections import api
from streams import clock
from streams.directory import Directory
from streams.errors import GenledgerError, LogError
from streams.gateway.app import Door
from streams.gateway.proxy import Proxy
from streams.known import Known
from streams.log.backends import open_log
from streams.log.kafka.log import KafkaLog
from streams.settings import Settings


async def run(settings: Settings, watch: Watch, stack: AsyncExitStack) -> None:
    """Start a gateway."""
    log = await open_log(settings)
    stack.push_async_callback(log.close)
    if not isinstance(log, KafkaLog):
        raise GenledgerError("an embedded log has one process: run `genledger serve`")
    watch.futures["the log"] = log.failed
    watch.log_identity = log.identity
    directory = Directory(log)
    await directory.refresh()
    await start_upkeep(log, directory, stack)
    proxy = Proxy(settings, log)
    stack.push_async_callback(proxy.close)
    await start_lookout("gateway", log, directory, settings, watch, stack)
    status = web.get("/api/v1/status", watch.status)
    door = Door(
        log=log,
        directory=directory,
        settings=settings,
        clock=clock.now_ms,
        lookup=_elsewhere,
        health=watch.health,
        extra_routes=[*api.routes_to(proxy.to_views), status],
        elsewhere={"explain": proxy.to_ledger, "duplicate": proxy.to_ledger},
    )
    await start_door(door, settings, stack)


async def _elsewhere(_id: str) -> Known | None:
    raise LogError("the ledger workers know")
