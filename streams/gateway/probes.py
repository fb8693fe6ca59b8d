"""Is it alive, is it ready, what has it counted: the routes that need no key and tell nobody's figures."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from streams import metrics
from streams.gateway.answers import answer

# In the repository, where all of it is explained.
DOCS = "docs/http.md"


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the service does its work; the reasons when not, and each component's own account."""

    ready: bool
    reasons: tuple[str, ...] = ()
    components: Mapping[str, Any] = field(default_factory=dict)


class Probes:
    """The handlers."""

    def __init__(self, health: Callable[[], Health]) -> None:
        self._health = health

    async def root(self, request: web.Request) -> web.Response:
        """GET /: what answers here, and where to read on."""
        body = {"name": "genledger", "version": metrics.version(), "openapi": "/openapi.json", "docs": DOCS}
        return answer(200, body)

    async def live(self, request: web.Request) -> web.Response:
        """GET /livez: the process answers."""
        return answer(200, {"live": True})

    async def ready(self, request: web.Request) -> web.Response:
        """GET /readyz: 503 while something keeps it from its work; ?verbose tells of every component."""
        health = self._health()
        body: dict[str, Any] = {"ready": health.ready, "reasons": list(health.reasons)}
        if "verbose" in request.query:
            body["components"] = dict(health.components)
        return answer(200 if health.ready else 503, body)

    async def metrics(self, request: web.Request) -> web.Response:
        """GET /metrics: for Prometheus."""
        text, content_type = metrics.exposition(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})
