"""The gateway: the door before a cluster. It keeps nothing, so there may be as many as are needed.

    genledger gateway --port 8787 --metrics-port 9101

What it can't know it asks: ledger workers for their ids, the summaries worker for the views, the points
worker for what goes to InfluxDB.
"""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from aiohttp import web

from genledger.roles.cleanup import Cleanup
from genledger.roles.cleanup_routes import cleanup_routes
from genledger.roles.door import start_door
from genledger.roles.lookout import start_lookout
from genledger.roles.opening import open_cluster
from genledger.roles.points_routes import points_elsewhere
from genledger.roles.sync import Syncs
from genledger.roles.sync_routes import sync_routes
from genledger.watch import Status, Watch
from projections import api
from projections.api import takes
from streams import clock
from streams.errors import LogError
from streams.gateway.app import Door
from streams.gateway.proxy import Proxy
from streams.known import Known
from streams.settings import Settings


async def run(settings: Settings, watch: Watch, stack: AsyncExitStack) -> None:
    """Start a gateway."""
    log, directory = await open_cluster(settings, watch, stack)
    proxy = Proxy(settings, log)
    stack.push_async_callback(proxy.close)
    await start_lookout("gateway", log, directory, settings, watch, stack)

    @takes(returns=Status)
    async def told(request: web.Request) -> web.Response:
        """This gateway, and what the workers say of themselves"""
        return web.json_response(status_of(watch.detail() | {"sync": None}, await proxy.statuses(request)))

    door = Door(
        log=log,
        directory=directory,
        settings=settings,
        clock=clock.now_ms,
        lookup=_elsewhere,
        health=watch.health,
        extra_routes=[
            *api.routes_to(proxy.to_views),
            *api.passed_to(proxy.to_leader, sync_routes(_leads, settings)),
            *api.passed_to(proxy.to_leader_patiently, cleanup_routes(_cleans, settings)),
            *points_elsewhere(settings, proxy),
            web.get("/api/v1/status", told),
        ],
        elsewhere={"explain": proxy.to_ledger, "duplicate": proxy.to_ledger},
    )
    await start_door(door, settings, stack)


def status_of(own: Mapping[str, Any], workers: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Any]:
    """One status of them all: a worker's roles under the worker's name, where that tells them apart. Pure."""
    roles, lag, alarms = dict(own["roles"]), dict(own["lag"]), dict(own["alarms"])
    kept = {name: own.get(name) for name in ("proof", "reconciliation", "sync", "cleanup")}
    for worker, said in workers.items():
        if said is None:
            roles[worker] = "unreachable"
            continue
        for role, state in said["roles"].items():
            name = worker if role == "ledger" else role
            if role == "log" and state == "ok":
                continue
            roles[name] = state
            lag[name] = said["lag"].get(role)
        alarms |= said["alarms"]
        kept = {name: found or said.get(name) for name, found in kept.items()}
    return {**own, "roles": roles, "lag": lag, "alarms": alarms, **kept}


def _leads() -> Syncs:
    raise LogError("the jobs worker knows")


def _cleans() -> Cleanup:
    raise LogError("the jobs worker knows")


async def _elsewhere(_id: str) -> Known | None:
    raise LogError("the ledger workers know")
