"""The door without the service: how commands work on the files when no service runs.

    with door(settings) as (url, key):
        Client(url, key).post("/api/v1/organizations", {"id": "acme"})

It is the same door, on a port of its own for as long as the command takes, and the log's lock is held
meanwhile. The ledger does not run: what is published is decided when the service is started. Whoever may
write the files is their owner, so the command's key, made for it alone, has an administrator's rights.
"""

import asyncio
import secrets
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack, contextmanager

import msgspec
from aiohttp import web

from streams import clock, topics
from streams.directory import Directory
from streams.gateway.answers import Refusal
from streams.gateway.app import Door, build
from streams.gateway.probes import Health
from streams.gateway.server import Runner
from streams.known import Known
from streams.log.interface import Log
from streams.log.sqlite.log import open_log
from streams.organizations import Key
from streams.settings import Settings

LOOPBACK = "127.0.0.1"


OWNER = Key(id="owner", hash="", rights="admin", created_ms=0)


class _OwnersDirectory(Directory):
    """The directory, in which the owner of the files has a key that stands nowhere."""

    def __init__(self, log: Log, secret: str) -> None:
        super().__init__(log)
        self._secret = secret

    def key(self, id: str) -> Key | None:
        return OWNER if id == OWNER.id else super().key(id)

    def key_of_secret(self, secret: str) -> Key | None:
        if secrets.compare_digest(secret.encode(), self._secret.encode()):
            return OWNER
        return super().key_of_secret(secret)


@contextmanager
def door(settings: Settings) -> Iterator[tuple[str, str]]:
    """Open the log and a door on it; its URL and the key to it. `LogBusy` when another has the log."""
    secret = secrets.token_urlsafe(32)
    url: Future[str] = Future()
    stop: Future[None] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(_run(settings, secret, url, stop)), daemon=True)
    thread.start()
    try:
        yield url.result(), secret
    finally:
        stop.set_result(None)
        thread.join()


async def _run(settings: Settings, secret: str, url: Future[str], stop: Future[None]) -> None:
    try:
        async with AsyncExitStack() as stack:
            port = await _start(settings, secret, stack)
            url.set_result(f"http://{LOOPBACK}:{port}")
            await asyncio.wrap_future(stop)
    except BaseException as error:
        if url.done():
            raise
        url.set_exception(error)  # the command says it


async def _start(settings: Settings, secret: str, stack: AsyncExitStack) -> int:
    log = await open_log(settings.broker, topics.topic_table())
    stack.push_async_callback(log.close)
    directory = _OwnersDirectory(log, secret)
    await directory.refresh()
    local = msgspec.structs.replace(settings, host=LOOPBACK)
    status = [web.get("/api/v1/status", _status_of(log))]
    runner = Runner(build(Door(log, directory, local, clock.now_ms, _unknown, _not_ready, status)))
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, LOOPBACK, 0)
    await site.start()
    port: int = runner.addresses[0][1]
    return port


def _status_of(log: Log) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def status(_request: web.Request) -> web.Response:
        """Which ledger this is; no role runs."""
        return web.json_response({"log": log.identity, "roles": {}, "lag": {}, "proof": None})

    return status


async def _unknown(_id: str) -> Known | None:
    raise Refusal(503, "offline", "the ledger does not run: start it with `genledger serve`")


def _not_ready() -> Health:
    return Health(ready=False, reasons=("no service runs",))
