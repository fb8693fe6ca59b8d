"""Where raw points go, over HTTP: the seed's two routes for administrators.

    GET /api/v1/admin/usage/service-status     {"influxdb_first_enabled": false, "note": "Legacy mode", ...}
    GET /api/v1/admin/usage/influxdb-health    200: it takes points; 503: it does not, and why

    points_routes(settings, lambda: state_of(part.told(), part.places()), server.health)
    points_elsewhere(settings, proxy)          # on a gateway: the points worker knows

Nothing is said of the token, and where the server is only to who may see every organisation.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType
from yarl import URL

from projections.api import takes
from streams import clock
from streams.gateway.answers import Refusal, answer
from streams.gateway.proxy import Proxy
from streams.settings import PointsKept, Settings, points_kept

LEGACY = "Legacy mode"
UNKNOWN = "unknown"
# However often it is asked for: InfluxDB has better things to do.
HEALTH_AGE_S = 2.0

Places = Mapping[tuple[str, int], tuple[int, int]]


class PointsState(msgspec.Struct, frozen=True, kw_only=True):
    """What the sender says of itself. `trouble`: why points wait; `position`: each place's next record."""

    circuit: str
    trouble: str
    last_error: str
    written: int
    refused: int
    lag_records: int
    position: Mapping[str, int]


class Told(Protocol):
    """What a sender tells of itself, as far as it is told here."""

    @property
    def circuit(self) -> str: ...
    @property
    def trouble(self) -> str: ...
    @property
    def last_error(self) -> str: ...
    @property
    def written(self) -> int: ...
    @property
    def refused(self) -> int: ...


class Health(Protocol):
    """What a server says of itself."""

    @property
    def ok(self) -> bool: ...
    @property
    def version(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def milliseconds(self) -> float: ...


State = Callable[[], PointsState]
AskHealth = Callable[[], Awaitable[Health]]


class ServiceStatus(msgspec.Struct, kw_only=True):
    """Where raw points go, and how that goes; in legacy mode the first three fields only."""

    influxdb_first_enabled: bool
    points: PointsKept
    note: str | UnsetType = UNSET
    url: str | UnsetType = UNSET
    org: str | UnsetType = UNSET
    bucket: str | UnsetType = UNSET
    dedup: str | UnsetType = UNSET
    circuit: str | UnsetType = UNSET
    trouble: str | UnsetType = UNSET
    last_error: str | UnsetType = UNSET
    lag_records: int | UnsetType | None = UNSET
    written: int | UnsetType | None = UNSET
    refused: int | UnsetType | None = UNSET
    position: dict[str, int] | UnsetType = UNSET


class InfluxHealth(msgspec.Struct):
    """InfluxDB would take points now; `version` is its own word for itself."""

    healthy: bool
    version: str
    milliseconds: float


def state_of(told: Told, places: Places, trouble: str = "") -> PointsState:
    """What a sender tells, and where it stands; `trouble` is its process's. Pure."""
    return PointsState(
        circuit=told.circuit,
        trouble=trouble or told.trouble,
        last_error=told.last_error,
        written=told.written,
        refused=told.refused,
        lag_records=sum(max(0, end - at) for at, end in places.values()),
        position={f"{topic}/{partition}": at for (topic, partition), (at, _) in places.items()},
    )


def status_of(settings: Settings, state: PointsState | None, organization: str) -> dict[str, Any]:
    """What the status says to a caller of one organisation, or to one of all (""). Pure.

    >>> status_of(Settings(), None, "")
    {'influxdb_first_enabled': False, 'points': 'sqlite', 'note': 'Legacy mode'}
    """
    kept = points_kept(settings)
    if kept != "influxdb":
        return {"influxdb_first_enabled": False, "points": kept, "note": LEGACY}
    found: dict[str, Any] = {"influxdb_first_enabled": True, "points": kept}
    if not organization:
        found |= _place_of(settings)
    if state is None:
        absent = dict.fromkeys(("lag_records", "written", "refused"))
        return found | absent | {"circuit": UNKNOWN, "trouble": "the points worker does not answer"}
    told: dict[str, Any] = msgspec.to_builtins(state)
    if organization:  # how it goes, but nothing of whose server that is
        told = {name: told[name] for name in ("circuit", "lag_records")}
    return found | told


def _place_of(settings: Settings) -> dict[str, str]:
    which = "influxdb_cloud_" if settings.influxdb_use_cloud else "influxdb_"
    url = URL(getattr(settings, f"{which}url"))
    return {
        "url": str(url.with_user(None).with_query(None).with_fragment(None)),
        "org": getattr(settings, f"{which}org"),
        "bucket": getattr(settings, f"{which}bucket"),
        "dedup": settings.influxdb_dedup,
    }


class PointsRoutes:
    """The handlers. `state` and `health` are None where nothing goes to InfluxDB."""

    def __init__(self, settings: Settings, state: State | None, health: AskHealth | None) -> None:
        self._settings = settings
        self._state = state
        self._health = health
        self._asking = asyncio.Lock()
        self._known: tuple[float, Health] | None = None

    @takes(returns=ServiceStatus, statuses=(200, 503))
    async def service_status(self, request: web.Request) -> web.Response:
        """Whether raw points go to InfluxDB, and how that goes"""
        state = None if self._state is None else self._state()
        return answer(200, status_of(self._settings, state, request["organization"]))

    @takes(returns=InfluxHealth, statuses=(200, 409, 503))
    async def influxdb_health(self, request: web.Request) -> web.Response:
        """Whether InfluxDB would take points now. 503: it would not; 409: none go there"""
        if self._health is None:
            raise legacy()
        found = await self._asked(self._health)
        if not found.ok:
            why = "" if request["organization"] else f": {found.message}"
            message = f"InfluxDB takes no points now{why}"
            raise Refusal(503, "influxdb", message, retry_after_s=HEALTH_AGE_S)
        return answer(200, InfluxHealth(True, found.version, round(found.milliseconds, 3)))

    async def _asked(self, health: AskHealth) -> Health:
        """One question at a time, and an answer stands for a moment."""
        async with self._asking:
            if self._known is None or clock.monotonic_s() - self._known[0] > HEALTH_AGE_S:
                self._known = clock.monotonic_s(), await health()
            return self._known[1]


def legacy() -> Refusal:
    """No raw point goes to InfluxDB."""
    return Refusal(409, "legacy_mode", "raw points go to no InfluxDB: INFLUXDB_FIRST_ENABLED is off")


def points_routes(
    settings: Settings, state: State | None = None, health: AskHealth | None = None
) -> list[web.RouteDef]:
    """The two routes, where the sender is."""
    return _routes(PointsRoutes(settings, state, health))


def points_elsewhere(settings: Settings, proxy: Proxy) -> list[web.RouteDef]:
    """The two routes of a gateway: what the points worker knows, and what is known without it."""
    return _routes(_Elsewhere(settings, proxy))


def _routes(handlers: "PointsRoutes | _Elsewhere") -> list[web.RouteDef]:
    return [
        web.get("/api/v1/admin/usage/service-status", handlers.service_status),
        web.get("/api/v1/admin/usage/influxdb-health", handlers.influxdb_health),
    ]


class _Elsewhere:
    """The handlers of a gateway. Every role has the same settings, so it knows whether there is a worker."""

    def __init__(self, settings: Settings, proxy: Proxy) -> None:
        self._settings = settings
        self._proxy = proxy
        self._enabled = points_kept(settings) == "influxdb"

    @takes(returns=ServiceStatus, statuses=(200, 503))
    async def service_status(self, request: web.Request) -> web.StreamResponse:
        """Whether raw points go to InfluxDB, and how that goes"""
        if self._enabled:
            try:
                return await self._proxy.to_points(request)
            except Refusal as refusal:
                if refusal.status != 503:
                    raise
        return answer(200, status_of(self._settings, None, request["organization"]))

    @takes(returns=InfluxHealth, statuses=(200, 409, 503))
    async def influxdb_health(self, request: web.Request) -> web.StreamResponse:
        """Whether InfluxDB would take points now. 503: it would not; 409: none go there"""
        if not self._enabled:
            raise legacy()
        return await self._proxy.to_points(request)
