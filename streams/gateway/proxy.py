"""Asking the process that knows: the caller's request is passed on, key and all, and its answer passed back.

    proxy = Proxy(settings, log)
    Door(..., elsewhere={"explain": proxy.to_ledger, "duplicate": proxy.to_ledger})
    web.get("/api/v1/usage/daily", proxy.to_views)

A ledger worker answers for its own ids, the summaries worker for the views, the points worker for InfluxDB.
They check the key themselves, so nothing is told here that would not be told there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Protocol

import aiohttp
from aiohttp import hdrs, web
from yarl import URL

from streams import topics
from streams.clock import monotonic_s
from streams.gateway import body as bodies
from streams.gateway.answers import Refusal
from streams.log.partition import partition_of
from streams.settings import Settings, influxdb_first

ASKED = (hdrs.AUTHORIZATION, hdrs.ACCEPT, hdrs.CONTENT_TYPE)
ANSWERED = (
    *(hdrs.CONTENT_TYPE, hdrs.RETRY_AFTER, hdrs.CONTENT_DISPOSITION, hdrs.CACHE_CONTROL),
    *("X-Truncated", "X-Next-Cursor"),
)
OWNERS_AGE_S = 2.0
CONNECT_TIMEOUT_S = 3.0
PATIENT_TIMEOUT_S = 1800.0
RETRY_AFTER_S = 2.0
CONNECTIONS_MAX = 128


class Owners(Protocol):
    """Who knows which ledger worker has which partition."""

    def partitions(self, topic: str) -> int: ...

    async def owners(self, group: str, topic: str) -> Mapping[int, str]:
        """The address of each partition's owner."""


class Proxy:
    """Passes requests on."""

    def __init__(self, settings: Settings, log: Owners) -> None:
        self._log = log
        self._views_url = settings.views_url.rstrip("/")
        self._points_url = settings.points_url.rstrip("/") if influxdb_first(settings) else ""
        self._limits = bodies.small(settings)
        self._room = bodies.Room(settings.requests_max, settings.requests_max * bodies.SMALL_BYTES_MAX)
        # A listener to a stream is there until he goes, so only silence ends an answer.
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=CONNECT_TIMEOUT_S, sock_read=settings.explain_timeout_s * 2
        )
        self._patient = aiohttp.ClientTimeout(
            total=None, connect=CONNECT_TIMEOUT_S, sock_read=PATIENT_TIMEOUT_S
        )
        connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX)
        self._session = aiohttp.ClientSession(
            timeout=self._timeout, connector=connector, auto_decompress=False
        )
        self._owners: Mapping[int, str] = {}
        self._owners_read_s = float("-inf")
        self._reading = asyncio.Lock()

    async def to_ledger(self, request: web.Request) -> web.StreamResponse:
        """To the worker that has the id's partition."""
        key = request.match_info["id"].encode()
        partition = partition_of(key, self._log.partitions(topics.GENERATIONS))
        url = (await self._owners_now()).get(partition)
        if url is None:
            raise _absent("no ledger worker has this id's partition now: try again in a moment")
        return await self._passed(request, url, self._forget_owners)

    async def to_leader(self, request: web.Request) -> web.StreamResponse:
        """To the jobs worker that leads."""
        return await self._to_leader(request)

    async def to_leader_patiently(self, request: web.Request) -> web.StreamResponse:
        """The same, for what takes long: to count what is known of every id."""
        return await self._to_leader(request, self._patient)

    async def _to_leader(
        self, request: web.Request, patience: aiohttp.ClientTimeout | None = None
    ) -> web.StreamResponse:
        url = (await self._leader()).get(0)
        if url is None:
            raise _absent("no jobs worker leads now: try again in a moment")
        body = None
        if request.method == hdrs.METH_POST:
            with self._room.seat() as seat:
                body = await bodies.read(request, self._limits, seat)
        return await self._passed(request, url, _nothing, body, patience)

    async def _leader(self) -> Mapping[int, str]:
        return await self._log.owners(topics.JOBS_GROUP, topics.KEYS)

    async def statuses(self, request: web.Request) -> Mapping[str, Mapping[str, Any] | None]:
        """What each worker says of itself, by name; None of one that does not answer."""
        urls = {"summaries": self._views_url}
        urls |= {f"ledger at {url}": url for url in sorted(set((await self._owners_now()).values()))}
        if leader := (await self._leader()).get(0):
            urls["jobs"] = leader
        if self._points_url:
            urls["points"] = self._points_url
        said = await asyncio.gather(*(self._status(request, url) for url in urls.values()))
        return dict(zip(urls, said, strict=True))

    async def _status(self, request: web.Request, url: str) -> Mapping[str, Any] | None:
        headers = {name: request.headers[name] for name in ASKED if name in request.headers}
        try:
            async with self._session.get(f"{url}/api/v1/status", headers=headers) as answer:
                found = await answer.json()
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None
        return found if answer.status == HTTPStatus.OK else None

    async def to_views(self, request: web.Request) -> web.StreamResponse:
        """To the summaries worker."""
        return await self._passed(request, self._views_url, _nothing)

    async def to_points(self, request: web.Request) -> web.StreamResponse:
        """To the points worker."""
        return await self._passed(request, self._points_url, _nothing)

    async def _owners_now(self) -> Mapping[int, str]:
        async with self._reading:
            if monotonic_s() - self._owners_read_s > OWNERS_AGE_S:
                self._owners = await self._log.owners(topics.LEDGER_GROUP, topics.GENERATIONS)
                self._owners_read_s = monotonic_s()
        return self._owners

    async def _forget_owners(self) -> None:
        self._owners_read_s = float("-inf")

    async def _passed(
        self,
        request: web.Request,
        url: str,
        failed: Callable[[], Awaitable[None]],
        body: bytes | None = None,
        patience: aiohttp.ClientTimeout | None = None,
    ) -> web.StreamResponse:
        headers = {name: request.headers[name] for name in ASKED if name in request.headers}
        # The path alone: a request may name a whole URL, whose host is not to be asked.
        target = url + request.rel_url.raw_path_qs
        try:
            async with self._session.request(
                request.method,
                URL(target, encoded=True),
                headers=headers,
                data=body,
                allow_redirects=False,
                timeout=patience or self._timeout,
            ) as answer:
                return await _passed_back(request, answer)
        except (aiohttp.ClientConnectionError, TimeoutError, ValueError):
            if request.get("prepared"):
                raise ConnectionResetError("the worker's answer broke off") from None
            await failed()
            raise _absent("the worker that knows does not answer: try again in a moment") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


async def _passed_back(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = {name: answer.headers[name] for name in ANSWERED if name in answer.headers}
    response = web.StreamResponse(status=answer.status, headers=headers)
    await response.prepare(request)
    async for chunk in answer.content.iter_any():
        await response.write(chunk)
    await response.write_eof()
    return response


async def _nothing() -> None:
    """Nothing to forget."""


def _absent(message: str) -> Refusal:
    return Refusal(503, "worker_unavailable", message, retry_after_s=RETRY_AFTER_S)
