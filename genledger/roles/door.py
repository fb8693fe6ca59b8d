"""Listening: an application on an address, until the process stops.

await start_door(door, settings, stack)
"""

import sys
from contextlib import AsyncExitStack

from aiohttp import web

from streams.errors import SettingError
from streams.gateway.access import is_loopback
from streams.gateway.app import Door, build, first_key
from streams.gateway.server import Runner
from streams.settings import Settings

# Requests under way when the service is stopped have so long; a listener to a stream never ends by itself.
REQUESTS_DRAIN_S = 2.0


async def start_door(door: Door, settings: Settings, stack: AsyncExitStack) -> None:
    """The door for everybody; without a key, and open to others, it makes the first one."""
    if not is_loopback(settings.host):
        secret = await first_key(door)
        if secret:
            print(f"genledger: the first administrator's key, shown this once: {secret}", file=sys.stderr)
    await start_site(build(door), settings, "GENLEDGER_PORT", stack)
    print(f"genledger: listening on http://{settings.host}:{settings.port}", file=sys.stderr)


async def start_site(app: web.Application, settings: Settings, setting: str, stack: AsyncExitStack) -> None:
    """Listen on the settings' host and port; `setting` is the name of the port's setting."""
    runner = Runner(app, shutdown_timeout=min(REQUESTS_DRAIN_S, settings.drain_timeout_s / 2))
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
    except OSError as error:
        place = f"{settings.host}:{settings.port}"
        option = "--port" if setting == "GENLEDGER_PORT" else "--metrics-port"
        raise SettingError(
            f"{place} can't be listened on ({error.strerror}): is another service there? Give another port"
            f" with {option} or {setting}"
        ) from None
