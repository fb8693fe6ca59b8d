"""The read routes: what the views say, as JSON, CSV or a stream.

    app.add_routes(routes(queries, now_ms, changed.wait_for_change, ends))

A middleware in front has checked the caller and set `request["organization"]`: the one organisation it
may read, or "" for all. Another's figures are a 404, the same as figures that are not there.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from projections import conflicts, raw, runs, shapes
from projections.books import Balance, balance
from projections.exports import csv_text
from projections.queries import COLUMNS, Kind, Queries
from streams import metrics, times
from streams.clock import Clock
from streams.settings import PointsKept

# Waits until the views have changed, at most so many seconds; whether they have.
WaitForChange = Callable[[float], Awaitable[bool]]
# The end of each partition of the topic generations, for one who goes on from these offsets in them.
Ends = Callable[[Mapping[int, int]], Awaitable[Mapping[int, int]]]

STREAMS_MAX = 100
KEEP_ALIVE_S = 15.0
STREAM_PAUSE_S = 0.25  # at most four events a second to each listener

# A parameter's name, and what it means: the gateway in front refuses a request that has any other.
Query = tuple[tuple[str, str], ...]
ORGANIZATION: Query = (("org", "the organisation's id; all that the key may read unless given"),)
DAYS: Query = (
    *ORGANIZATION,
    ("from", "the first day, such as 2026-11-20"),
    ("to", "the last day, itself within"),
)
_POINTS: Query = (
    ("org", "the organisation's id; needed unless the key has one"),
    ("from", "the first day, such as 2026-11-20, or instant, such as 2026-11-20T10:00:00Z"),
    ("to", "the last day or instant, itself within"),
    ("model", "this model's only: a page may then be empty and still have a next one"),
    ("limit", f"at most so many, {raw.LIMIT} unless given, up to {raw.LIMIT_MAX}"),
    ("cursor", "`next` of the page before"),
)

_RUNS: Query = (("limit", f"at most so many, {runs.LIMIT} unless given, up to {runs.LIMIT_MAX}"),)

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[web.StreamResponse]])

_NUMBERS = ("raw_cost", "markup_cost")
_JSON = "application/json"
_CSV = "text/csv"
_EVENTS = "text/event-stream"
# What to say where there are no raw points here.
_NO_POINTS: Mapping[PointsKept, tuple[str, str]] = {
    "influxdb": (
        "points_in_influxdb",
        "raw points are in InfluxDB, and only there: ask it, in the measurement llm_usage",
    ),
    "nowhere": ("points_not_kept", "raw points are not kept: GENLEDGER_POINTS is false"),
}
# 503: too many streams; on a cluster, the worker that knows does not answer.
_READS = (200, 404, 503)


async def balances(queries: Queries, ends: Ends) -> Sequence[Balance]:
    """The books as they stand: the views' side and the log's."""
    fates, read = await queries.books()
    found = await ends({partition: taken.next_offset for partition, taken in read.items()})
    return balance(fates, read, found)


def routes(
    queries: Queries,
    clock: Clock,
    wait_for_change: WaitForChange,
    ends: Ends,
    points: PointsKept = "sqlite",
) -> list[web.RouteDef]:
    """The routes under /api/v1 that only read the views. `points`: where raw points are kept."""
    api = Api(queries, clock, wait_for_change, ends, points)
    return [
        web.get("/api/v1/usage/daily", api.daily),
        web.get("/api/v1/usage/users", api.users),
        web.get("/api/v1/usage/models", api.models),
        web.get("/api/v1/usage/points", api.points),
        web.get("/api/v1/usage/live", api.live),
        web.get("/api/v1/usage/stream", api.stream, allow_head=False),
        web.get("/api/v1/books", api.books),
        web.get("/api/v1/conflicts", api.conflicts),
        web.get("/api/v1/admin/cleanup/runs", api.cleanup_runs),
        web.get("/api/v1/admin/cleanup/runs/{run}", api.cleanup_run),
    ]


def routes_to(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> list[web.RouteDef]:
    """The same routes, with their parameters and descriptions, answered by another process."""
    described: Any = None
    return passed_to(handler, routes(described, described, described, described))


def passed_to(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], described: Sequence[web.RouteDef]
) -> list[web.RouteDef]:
    """These routes, answered by one handler.

    Each handler stands for its own: routes are told apart, and described, by them.
    """
    found = []
    for route in described:

        @functools.wraps(route.handler)
        async def passed(request: web.Request) -> web.StreamResponse:
            return await handler(request)

        found.append(web.RouteDef(route.method, route.path, passed, route.kwargs))
    return found


def takes(query: Query = (), **documented: Any) -> Callable[[Handler], Handler]:
    """Note at a handler which parameters it knows, and what else the gateway's document says of it."""

    def noted(handler: Handler) -> Handler:
        handler.query = query  # type: ignore[attr-defined]
        handler.documented = documented  # type: ignore[attr-defined]
        return handler

    return noted


class Api:
    """The handlers. Errors are answers of theirs; what they raise else is the server's to show."""

    def __init__(
        self,
        queries: Queries,
        clock: Clock,
        wait_for_change: WaitForChange,
        ends: Ends,
        points: PointsKept,
    ) -> None:
        self._points = points
        self._queries = queries
        self._clock = clock
        self._wait_for_change = wait_for_change
        self._ends = ends
        self._streams = 0

    @takes(DAYS, returns=shapes.Daily, also=(_CSV,), statuses=_READS)
    async def daily(self, request: web.Request) -> web.Response:
        """Days of organisations."""
        return await self._usage(request, "daily")

    @takes(DAYS, returns=shapes.Users, also=(_CSV,), statuses=_READS)
    async def users(self, request: web.Request) -> web.Response:
        """Days of users."""
        return await self._usage(request, "users")

    @takes(DAYS, returns=shapes.Models, also=(_CSV,), statuses=_READS)
    async def models(self, request: web.Request) -> web.Response:
        """Days of models."""
        return await self._usage(request, "models")

    @takes(_POINTS, returns=shapes.Points, also=(_CSV,), statuses=(*_READS, 409))
    async def points(self, request: web.Request) -> web.Response:
        """Raw points of one organisation, a page at a time. 409: they are not kept in SQLite"""
        organization = _organization(request)
        if organization is None:
            return _not_found()
        if not organization:
            return _error(400, "bad_request", "must name an organisation", "org")
        if self._points != "sqlite":
            return _error(409, *_NO_POINTS[self._points])
        try:
            asked = raw.asked_of(request.query, organization)
        except raw.BadParameter as error:
            return _error(400, "bad_request", str(error), error.field)
        page = await self._queries.points(asked)
        if not _wants_csv(request):
            return _json(page)
        response = web.Response(text=csv_text(raw.COLUMNS, page.rows, _NUMBERS), content_type=_CSV)
        response.headers["X-Next-Cursor"] = page.next or ""
        return response

    @takes(ORGANIZATION, returns=shapes.LiveCounters, statuses=_READS)
    async def live(self, request: web.Request) -> web.Response:
        """Today's counters."""
        organization = _organization(request)
        if organization is None:
            return _not_found()
        if not organization and "org" in request.query:
            return _unnamed()
        return _json(await self._live(organization))

    @takes(returns=shapes.Books, statuses=_READS)
    async def books(self, request: web.Request) -> web.Response:
        """Where every record went, for each partition, and whether that adds up."""
        if request["organization"]:
            return _not_found()
        rows = await balances(self._queries, self._ends)
        metrics.BOOK_RESIDUE_RECORDS.set(sum(abs(row.residue) for row in rows))
        return _json({"balanced": all(row.balanced for row in rows), "partitions": rows})

    @takes(DAYS, returns=shapes.Conflicts, statuses=_READS)
    async def conflicts(self, request: web.Request) -> web.Response:
        """Generation ids that two organisations have claimed; the other one of the caller's has no name"""
        asked = _days_of(request)
        if isinstance(asked, web.Response):
            return asked
        page = await self._queries.conflicts(*asked)
        rows = [conflicts.seen_by(row, request["organization"]) for row in page.rows]
        return _json({"rows": rows, "truncated": page.truncated})

    @takes(_RUNS, returns=shapes.CleanupRuns, statuses=_READS, need="settings")
    async def cleanup_runs(self, request: web.Request) -> web.Response:
        """What the runs of the retention job have done, the newest first"""
        try:
            limit = raw.limit_of(request.query.get("limit", str(runs.LIMIT)), runs.LIMIT_MAX)
        except raw.BadParameter as error:
            return _error(400, "bad_request", str(error), error.field)
        page = await self._queries.cleanup_runs(limit)
        return _json({"rows": page.rows, "truncated": page.truncated})

    @takes(returns=shapes.CleanupRun, statuses=_READS, need="settings")
    async def cleanup_run(self, request: web.Request) -> web.Response:
        """What one run of the retention job has done, so far or in all"""
        found = await self._queries.cleanup_run(request.match_info["run"])
        return _not_found() if found is None else _json(found)

    @takes(ORGANIZATION, also=(_EVENTS,), statuses=_READS)
    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Today's counters as server-sent events: at once, and whenever they change."""
        organization = _organization(request)
        if organization is None:
            return _not_found()
        if not organization and "org" in request.query:
            return _unnamed()
        if self._streams >= STREAMS_MAX:
            busy = _error(503, "busy", f"there are {STREAMS_MAX} streams already")
            busy.headers["Retry-After"] = "10"
            return busy
        self._streams += 1
        try:
            return await self._send_events(request, organization)
        finally:
            self._streams -= 1

    async def _send_events(self, request: web.Request, organization: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": _EVENTS, "Cache-Control": "no-store"})
        await response.prepare(request)
        sent = b""
        while request.get("still_allowed", _yes)():
            body = msgspec.json.encode(await self._live(organization))
            event = b"event: live\ndata: " + body + b"\n\n" if body != sent else b": still here\n\n"
            try:
                await response.write(event)
            except ConnectionError:
                return response  # the listener has gone
            sent = body
            await asyncio.sleep(STREAM_PAUSE_S)
            # A change of another organisation is none for this one's listener.
            deadline = asyncio.get_running_loop().time() + KEEP_ALIVE_S
            while (left := deadline - asyncio.get_running_loop().time()) > 0:
                if await self._wait_for_change(left):
                    if msgspec.json.encode(await self._live(organization)) != sent:
                        break
                    await asyncio.sleep(STREAM_PAUSE_S)
        return response

    async def _live(self, organization: str) -> Mapping[str, Any]:
        page = await self._queries.live(self._clock(), organization)
        return {"rows": page.rows, "truncated": page.truncated}

    async def _usage(self, request: web.Request, kind: Kind) -> web.Response:
        asked = _days_of(request)
        if isinstance(asked, web.Response):
            return asked
        page = await self._queries.usage(kind, *asked)
        if not _wants_csv(request):
            return _json({"rows": page.rows, "truncated": page.truncated})
        response = web.Response(text=csv_text(COLUMNS[kind], page.rows, _NUMBERS), content_type=_CSV)
        response.headers["X-Truncated"] = str(page.truncated).lower()
        return response


def _yes() -> bool:
    return True


def _organization(request: web.Request) -> str | None:
    """The organisation that is asked for; None when it is not the caller's to see."""
    own: str = request["organization"]
    asked = request.query.get("org", own)
    return asked if not own or asked == own else None


def _days_of(request: web.Request) -> tuple[str, str, str] | web.Response:
    """Whose figures are asked for, the first day and the last; or the answer that says what is wrong."""
    organization = _organization(request)
    if organization is None:
        return _not_found()
    if not organization and "org" in request.query:
        return _unnamed()
    days = {}
    for name in ("from", "to"):
        try:
            days[name] = times.date_text(request.query[name]) if name in request.query else ""
        except ValueError as error:
            return _error(400, "bad_request", str(error), name)
    if days["from"] and days["to"] and days["from"] > days["to"]:
        return _error(400, "bad_request", "must not be before `from`", "to")
    return organization, days["from"], days["to"]


def _wants_csv(request: web.Request) -> bool:
    accepted = [part.partition(";")[0].strip() for part in request.headers.get("Accept", "").split(",")]
    if _CSV not in accepted:
        return False
    return _JSON not in accepted or accepted.index(_CSV) < accepted.index(_JSON)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type=_JSON)


def _not_found() -> web.Response:
    return _error(404, "not_found", "there is nothing here")


def _unnamed() -> web.Response:
    """`?org=` with nothing behind it is a script's empty variable, not a wish to see everybody's figures."""
    return _error(400, "bad_request", "must not be empty: leave it out for all that the key may read", "org")


def _error(status: int, code: str, message: str, field: str = "") -> web.Response:
    return _json({"error": {"code": code, "message": message, "field": field}}, status)
