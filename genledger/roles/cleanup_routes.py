"""The retention job over HTTP, for administrators: a run now, what it would do, and how far it is.

POST /api/v1/admin/cleanup {"days": 90}                    202: begun
POST /api/v1/admin/cleanup {"days": 60, "dry_run": true}   200: what would go; nothing is done
GET  /api/v1/admin/cleanup/stands

What a run has done is the audit's to say: GET /api/v1/admin/cleanup/runs, answered from the views.
"""

from collections.abc import Callable, Mapping

import msgspec
from aiohttp import web

from genledger.roles.cleanup import Cleanup, NotNow, course_of
from projections.api import takes
from streams import money, times
from streams.errors import LogUnavailable
from streams.gateway import body as bodies
from streams.gateway.answers import Refusal, answer, invalid
from streams.gateway.events import content_type_of
from streams.gateway.items import JSON
from streams.gateway.openapi import SMALL_WRITE
from streams.gateway.organizations import decoded
from streams.known import Horizon
from streams.settings import RETENTION_DAYS_MAX, RETENTION_DAYS_MIN, Settings
from streams.sweeper import Count

BODIES_MAX = 16
RETRY_AFTER_S = 2.0


class CleanupRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`days` in place of CLEANUP_RETENTION_DAYS, for this run. `dry_run`: say what would go, do nothing."""

    days: int | None = None
    dry_run: bool = False


class CleanupBegun(msgspec.Struct, kw_only=True):
    """A run that has begun: ids whose latest date is before `cutoff_date` go.

    What is dated before `horizon_date` when it first comes is not counted from here on.
    """

    run: str
    days_retained: int
    cutoff_date: str
    horizon_date: str
    partitions: int


class WouldGo(msgspec.Struct):
    """Ids that a run would forget, and what they are worth: their totals stay. Money is decimal text."""

    ids: int
    total_tokens: int
    raw_cost: str


class CleanupPlanned(msgspec.Struct, kw_only=True):
    """What a run would forget, by organisation and together; and the horizon after it, and as it is."""

    days_retained: int
    cutoff_date: str
    horizon_date: str
    horizon_date_now: str | None
    would_go: WouldGo
    organization_breakdown: dict[str, WouldGo]


class StandShown(msgspec.Struct, kw_only=True):
    """How far the newest run has come in a partition; `scanned` and `published` since its ledger began."""

    partition: int
    run: str
    phase: str
    started_at: str | None
    scanned: int
    published: int


class CleanupStands(msgspec.Struct, kw_only=True):
    """How the newest run stands. `running`: it has not ended everywhere yet."""

    running: bool
    run: str | None
    state: str | None
    scanned: int
    published: int
    partitions: list[StandShown]


class CleanupRoutes:
    """The handlers."""

    def __init__(self, cleanup: Callable[[], Cleanup], settings: Settings) -> None:
        self._now = cleanup
        self._limits = bodies.small(settings)
        self._room = bodies.Room(BODIES_MAX, BODIES_MAX * bodies.SMALL_BYTES_MAX)

    @takes(
        body=CleanupRequest,
        returns=CleanupBegun,
        beside={200: CleanupPlanned},
        statuses=(202, 200, 409, *SMALL_WRITE),
    )
    async def begin(self, request: web.Request) -> web.Response:
        """Forget old ids now. 202: begun; 200: with `dry_run`, what would go; 409: not now, and why"""
        content_type_of(request, (JSON,))
        with self._room.seat() as seat:
            wanted = decoded(await bodies.read(request, self._limits, seat), CleanupRequest)
        if wanted.days is not None and not RETENTION_DAYS_MIN <= wanted.days <= RETENTION_DAYS_MAX:
            raise invalid("days", f"must be from {RETENTION_DAYS_MIN} to {RETENTION_DAYS_MAX}")
        try:
            if wanted.dry_run:
                return answer(200, planned_of(*await self._now().planned(wanted.days)))
            by = request["caller"].key_id or "an administrator without a key"
            return answer(202, begun_of(await self._now().begin(wanted.days, by)))
        except NotNow as error:
            raise Refusal(409, error.code, str(error)) from None
        except LogUnavailable as error:
            raise _unavailable(error) from None

    @takes(returns=CleanupStands, statuses=(200, 503), need="settings")
    async def stands(self, request: web.Request) -> web.Response:
        """How far the newest run of the retention job has come, in each partition"""
        try:
            stands = await self._now().stands()
        except LogUnavailable as error:
            raise _unavailable(error) from None
        course = course_of(stands)
        partitions = [
            StandShown(
                partition=stand.partition,
                run=stand.run,
                phase=stand.phase,
                started_at=times.text_of(stand.started_ms * times.MS_NS) if stand.run else None,
                scanned=stand.scanned,
                published=stand.published,
            )
            for stand in stands
        ]
        told = CleanupStands(
            running=course is not None and course.state == "running",
            run=None if course is None else course.run.run,
            state=None if course is None else course.state,
            scanned=0 if course is None else course.scanned,
            published=0 if course is None else course.published,
            partitions=partitions,
        )
        return answer(200, told)


def begun_of(run: Horizon) -> CleanupBegun:
    """A run that has begun. Pure."""
    return CleanupBegun(
        run=run.run,
        days_retained=run.days,
        cutoff_date=times.day_of(run.cutoff_ns, "UTC"),
        horizon_date=times.day_of(run.horizon_ns, "UTC"),
        partitions=run.partitions,
    )


def planned_of(run: Horizon, counts: Mapping[str, Count], horizon_ns: int) -> CleanupPlanned:
    """A run that would begin, where the horizon is here now. It never falls. Pure."""
    return CleanupPlanned(
        days_retained=run.days,
        cutoff_date=times.day_of(run.cutoff_ns, "UTC"),
        horizon_date=times.day_of(max(run.horizon_ns, horizon_ns), "UTC"),
        horizon_date_now=times.day_of(horizon_ns, "UTC") if horizon_ns else None,
        would_go=_would_go(sum(counts.values(), Count())),
        organization_breakdown={name: _would_go(count) for name, count in sorted(counts.items())},
    )


def _would_go(count: Count) -> WouldGo:
    return WouldGo(count.ids, count.tokens, money.text_of(count.cost_nano))


def _unavailable(error: LogUnavailable) -> Refusal:
    return Refusal(503, "ledger_unavailable", str(error), retry_after_s=RETRY_AFTER_S)


def cleanup_routes(cleanup: Callable[[], Cleanup], settings: Settings) -> list[web.RouteDef]:
    """The two routes; `cleanup` refuses where nobody leads."""
    handlers = CleanupRoutes(cleanup, settings)
    return [
        web.post("/api/v1/admin/cleanup", handlers.begin),
        web.get("/api/v1/admin/cleanup/stands", handlers.stands),
    ]
