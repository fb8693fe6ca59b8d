"""What both fakes share: a server in a thread of its own, keys, troubles on order, shapes that are checked.

    with Documented([account]) as provider:
        provider.trouble.limited = 3           # the next three requests are answered 429
        provider.trouble.down = True           # 503 until it is False again
        provider.asked("/generation")          # how often, with which answers: Counter({200: 5, 429: 3})

Everything may be read and set from any thread, while the server runs.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
from aiohttp import web
from jsonschema import Draft202012Validator

from streams import clock, times
from tests.providers import shapes
from tests.providers.account import Account

START_TIMEOUT_S = 10.0
ACTIVITY_DAYS = 30


@dataclass
class Trouble:
    """What goes wrong, by order. Counters count down, request by request."""

    down: bool = False
    down_after: int | None = None  # so many requests are answered yet, and then `down` is set
    limited: int = 0  # so many of the next requests are answered 429
    limited_every: int = 0  # each nth request is
    retry_after: str = "1"
    broken: int = 0  # so many are answered with half an object
    slow_s: float = 0.0


@dataclass
class Request:
    """A request as it came, and how it was answered. Its key is not kept."""

    path: str
    query: dict[str, str]
    status: int = 0


@dataclass
class Served:
    """A provider on a loopback port while the context lasts. Leaving it fails if a shape was wrong."""

    accounts: Sequence[Account]
    trouble: Trouble = field(default_factory=Trouble)
    requests: list[Request] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    port: int = 0
    prefix: str = "/api/v1"
    now_ms: int | None = None  # decides which days are completed; None: the clock does

    @property
    def url(self) -> str:
        """What GENLEDGER_PROVIDER_URL is set to."""
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    def asked(self, path: str = "") -> Counter[int]:
        """How many requests were answered with which status."""
        return Counter(request.status for request in list(self.requests) if path in ("", request.path))

    def routes(self) -> list[web.RouteDef]:
        """The fake's own routes."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._valid: set[bytes] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(START_TIMEOUT_S), "the fake provider did not start"
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(START_TIMEOUT_S)
        if error[0] is None:
            assert not self.violations, f"not OpenRouter's shape: {self.violations[:3]}"

    async def _serve(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(middlewares=[self._gate])
        app.add_routes(self.routes())
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._stopped.wait()
        await runner.cleanup()

    @web.middleware
    async def _gate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Each request goes on the record, with its troubles before its answer."""
        seen = Request(request.path.removeprefix(self.prefix), dict(request.query))
        self.requests.append(seen)
        response = self._troubled()
        if response is None:
            if self.trouble.slow_s:
                await asyncio.sleep(self.trouble.slow_s)
            try:
                response = await handler(request)
            except web.HTTPNotFound:
                response = self.error(404, "Not Found")
        seen.status = response.status
        return response

    def _troubled(self) -> web.Response | None:
        trouble = self.trouble
        if trouble.down_after is not None:
            trouble.down = trouble.down or trouble.down_after <= 0
            trouble.down_after = None if trouble.down else trouble.down_after - 1
        if trouble.down:
            return self.error(503, "Provider returned error")
        if trouble.limited > 0 or (trouble.limited_every and len(self.requests) % trouble.limited_every == 0):
            trouble.limited = max(0, trouble.limited - 1)
            return self.error(429, "Rate limit exceeded", {"Retry-After": trouble.retry_after})
        if trouble.broken > 0:
            trouble.broken -= 1
            return web.Response(body=b'{"data":[{"id":"gen-', content_type="application/json")
        return None

    def account(self, request: web.Request, field: str = "key") -> Account | None:
        """Whose key a request has."""
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return next((one for one in self.accounts if given and getattr(one, field) == given), None)

    async def activity(self, request: web.Request) -> web.Response:
        """GET /activity?date= with an account's management key."""
        account = self.account(request, "management_key")
        if account is None:
            return self.error(403, "Only management keys can fetch activity")
        completed = self.completed_days()
        day = request.query.get("date")
        if day is not None and day not in completed:
            return self.error(400, "Date must be within the last 30 (completed) UTC days")
        days = completed if day is None else [day]
        return self.answer(self.check(shapes.ACTIVITY_ANSWER, account.activity(days)))

    def completed_days(self) -> list[str]:
        """The days that /activity tells of, the newest first."""
        now_ns = (clock.now_ms() if self.now_ms is None else self.now_ms) * times.MS_NS
        return [times.day_of(now_ns - ago * times.DAY_NS, "UTC") for ago in range(1, ACTIVITY_DAYS + 1)]

    def answer(self, body: bytes) -> web.Response:
        """A good answer, whose parts were checked when they were made."""
        return web.Response(body=body, content_type="application/json")

    def error(self, status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
        """An error as OpenRouter documents it."""
        body = msgspec.json.encode({"error": {"code": status, "message": message}})
        self.check(shapes.ERROR_ANSWER, body)
        return web.Response(status=status, body=body, content_type="application/json", headers=headers)

    def check(self, validator: Draft202012Validator, body: bytes) -> bytes:
        """The same bytes; a wrong shape is remembered. Each content is looked at once."""
        if body not in self._valid:
            self._valid.add(body)
            wrong = shapes.violation(validator, body)
            if wrong:
                self.violations.append(wrong)
        return body
