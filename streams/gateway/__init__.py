"""The door: HTTP in, events onto the log, 202 only when the log has them.

    door = Door(log, directory, settings, now_ms, lookup, health, extra_routes=read_routes)
    secret = "" if is_loopback(settings.host) else await first_key(door)      # shown once
    runner = Runner(build(door))
    await runner.setup()
    await web.TCPSite(runner, settings.host, settings.port).start()

| module        | is                                                                        |
| ------------- | ------------------------------------------------------------------------- |
| app           | the application: what every request goes through, routes to handlers      |
| openapi       | the table of routes: rights, documentation                                |
| access        | who is asking, and what they may do                                       |
| body, items   | a body read within its bounds; taken apart into events                    |
| events        | POST /api/v1/generations                                                  |
| intake        | onto the log within a time, or 503 and 507                                |
| explain       | one generation's story; is it a duplicate                                 |
| organizations | settings: organisations, users, keys                                      |
| rejected      | what was not taken, and the way back                                      |
| newest        | which of the records that are alike is the newest                         |
| probes        | livez, readyz, metrics                                                    |
| answers       | JSON and refusals                                                         |
| server        | aiohttp's server: its limits, its access log                              |
"""

from streams.gateway.access import is_loopback
from streams.gateway.app import Door, build, first_key
from streams.gateway.openapi import Operation
from streams.gateway.probes import Health
from streams.gateway.server import Runner, access_logger

__all__ = [
    "Door",
    "Health",
    "Operation",
    "Runner",
    "access_logger",
    "build",
    "first_key",
    "is_loopback",
]
