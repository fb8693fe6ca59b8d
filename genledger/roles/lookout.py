"""A role's own port: /metrics, /livez and /readyz, and what only this process knows.

await start_lookout("ledger", log, directory, settings, watch, stack, only={"explain"}, lookup=lookup)
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack

import msgspec
from aiohttp import web

from genledger.roles.door import start_site
from genledger.watch import Watch
from streams import clock
from streams.directory import Directory
from streams.errors import LogError
from streams.gateway.app import Door, build
from streams.gateway.explain import Lookup
from streams.known import Known
from streams.log.interface import Log
from streams.settings import Settings

PORTS = {"gateway": 9101, "ledger": 9102, "summaries": 9103, "jobs": 9104, "points": 9105}
PROBES = frozenset(("root", "live", "ready", "metrics"))


async def _nowhere(_id: str) -> Known | None:
    raise LogError("this role knows no ids")


def port_of(role: str, settings: Settings) -> int:
    """Where a role's port is."""
    return PORTS[role] if settings.metrics_port is None else settings.metrics_port


def address_of(role: str, settings: Settings) -> str:
    """Where other processes reach a role's port."""
    if settings.advertised_url:
        return settings.advertised_url.rstrip("/")
    host = f"[{settings.metrics_host}]" if ":" in settings.metrics_host else settings.metrics_host
    return f"http://{host}:{port_of(role, settings)}"


async def start_lookout(
    role: str,
    log: Log,
    directory: Directory,
    settings: Settings,
    watch: Watch,
    stack: AsyncExitStack,
    *,
    lookup: Lookup = _nowhere,
    only: frozenset[str] = frozenset(),
    routes: Sequence[web.RouteDef] = (),
) -> None:
    """Listen on the role's port until the stack ends."""
    port = port_of(role, settings)
    local = msgspec.structs.replace(settings, host=settings.metrics_host, port=port)
    door = Door(
        log=log,
        directory=directory,
        settings=local,
        clock=clock.now_ms,
        lookup=lookup,
        health=watch.health,
        extra_routes=[*routes, web.get("/api/v1/status", watch.status)],
        only=PROBES | only,
    )
    await start_site(build(door), local, "GENLEDGER_METRICS_PORT", stack)
