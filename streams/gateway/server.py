"""The HTTP server under the door: its limits, its answers to what is not HTTP, and its access log.

    runner = Runner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 8787).start()

aiohttp would unpack gzip bodies by itself, before anybody looked at their size, and answer malformed
requests with text and a traceback in the log: both are turned off here.
"""

import asyncio
import logging
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import HttpProcessingError

from streams.gateway.answers import SECURITY_HEADERS, Refusal
from streams.settings import Settings

LOGGED_LENGTH_MAX = 256
LINE_BYTES_MAX = 8190
HEADERS_MAX = 100
# After a refusal the rest of a body is read and dropped for so long, so that the client sees the answer.
LINGER_S = 1.0

CONNECTIONS_MAX = web.AppKey("connections_max", int)

access_logger = logging.getLogger("genledger.access")
_log = logging.getLogger("genledger.gateway")


def escaped(text: str) -> str:
    """Text that may come from anybody, safe in a log: one line of plain ASCII, of bounded length."""
    return text[:LOGGED_LENGTH_MAX].encode("unicode_escape").decode("ascii").replace('"', '\\"')


class AccessLog(AbstractAccessLogger):
    """One line a request: no query, no header but the user agent, so no secret."""

    @property
    def enabled(self) -> bool:
        return self.logger.isEnabledFor(logging.INFO)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        path = request.rel_url.raw_path
        key = caller.key_id if (caller := request.get("caller")) else ""
        self.logger.info(
            '%s "%s %s" %d %.1f ms id=%s key=%s agent="%s"',
            escaped(request.remote or "-"),
            escaped(request.method),
            escaped(path),
            response.status,
            time * 1000,
            request.get("id", "-"),
            key or "-",
            escaped(request.headers.get("User-Agent", "")),
        )


def handler_args(settings: Settings) -> dict[str, Any]:
    """How aiohttp is to treat connections."""
    return {
        "auto_decompress": False,
        "max_line_size": LINE_BYTES_MAX,
        "max_field_size": LINE_BYTES_MAX,
        "max_headers": HEADERS_MAX,
        "keepalive_timeout": settings.keepalive_timeout_s,
        "lingering_time": LINGER_S,
        "access_log_class": AccessLog,
        "access_log": access_logger,
        "logger": _log,
    }


class _Connection(web.RequestHandler):
    """One connection."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is not HTTP gets a JSON 400, a closed connection, and one line without its bytes."""
        if isinstance(exc, ConnectionError):
            raise exc  # the client has gone: nobody to answer, nothing to report
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        _log.info("%s sent what is not HTTP: %s", escaped(request.remote or "-"), type(exc).__name__)
        headers = {"Server": "genledger", **SECURITY_HEADERS}
        message = "the request is not valid HTTP"
        return Refusal(400, "bad_request", message, close=True, headers=headers).response()


class _Server(web.Server):
    """Makes a `_Connection` for each connection, up to a number of them."""

    connections_max = 0

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self.connections) > self.connections_max:
            # After the handler's own task has been made, which expects to find its server.
            asyncio.get_running_loop().call_soon(handler.force_close)

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=asyncio.get_running_loop(), **self._kwargs)


class Runner(web.AppRunner):
    """Runs the door's application on this server."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        arguments = made._kwargs  # noqa: SLF001  aiohttp has no other way to connections of one's own
        server = _Server(made.request_handler, request_factory=made.request_factory, **arguments)
        server.connections_max = self.app[CONNECTIONS_MAX]
        return server
