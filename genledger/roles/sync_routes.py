"""The sync over HTTP: how its runs went, a run now, and the provider's own account of a day beside ours.

GET  /api/v1/sync?org=acme
POST /api/v1/sync {"organization": "acme"}                  202: begun, GET tells when it is done
GET  /api/v1/reconcile/provider?org=acme&day=2026-11-20
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from aiohttp import web

from genledger.roles.sync import Syncs, told_of
from projections.api import takes
from streams import clock, money, times
from streams.errors import GenledgerError
from streams.gateway import body as bodies
from streams.gateway.answers import Refusal, answer, invalid, not_found
from streams.gateway.events import content_type_of
from streams.gateway.items import JSON
from streams.gateway.openapi import SMALL_WRITE
from streams.gateway.organizations import decoded
from streams.settings import Settings
from streams.sync.activity import Activity, Residue, compare
from streams.sync.provider import Provider, ProviderError
from streams.sync.run import ACTIVITY_DAYS_MAX

REPORTS_SHOWN = 50
AWAITED_SHOWN = 20
BODIES_MAX = 16
ACCOUNT_AGE_S = 60.0
ACCOUNTS_MAX = 256

_ORGANIZATION = ("org", "the organisation's id; all that the key may read unless given")
_MANAGEMENT = "the organisation has no management key: orgs set --management-key"


class SyncRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run now, of one organisation or all. `everything`: also what was put off, and the whole list."""

    organization: str = ""
    everything: bool = False


class SyncRun(msgspec.Struct, kw_only=True):
    """One run of one organisation: total_fetched = synced + amended + duplicates_skipped + failed."""

    organization: str
    started_at: str
    seconds: float
    synced_generations: int
    amended: int
    duplicates_skipped: int
    total_fetched: int
    failed: int
    not_found: int
    awaited: int
    missing: int | None
    truncated: bool
    error: str
    not_before: str


class Awaiting(msgspec.Struct):
    """How many ids of an organisation lack the provider's figures, and some of them."""

    organization: str
    awaited: int
    awaited_ids: list[str]


class SyncState(msgspec.Struct):
    """How the sync's runs went, the newest first; `last` has the newest of each organisation."""

    organizations: list[Awaiting]
    running: list[str]
    last: list[SyncRun]
    reports: list[SyncRun]


class SyncBegun(msgspec.Struct):
    """Whose runs have begun, or will when the one under way has ended."""

    organizations: list[str]
    started_at: str


class DayFigures(msgspec.Struct):
    """What is counted, money as decimal text."""

    requests: int
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cost: str
    upstream_cost: str


class ComparedRow(msgspec.Struct):
    """A model and provider: both accounts, and their difference by cause."""

    day: str
    model: str
    provider: str
    theirs: DayFigures
    ours: DayFigures
    difference: DayFigures
    causes: dict[str, DayFigures]


class DayCompared(msgspec.Struct):
    """A UTC day by the provider's account and by ours."""

    organization: str
    day: str
    rows: list[ComparedRow]


class SyncRoutes:
    """The handlers."""

    def __init__(self, syncs: Callable[[], Syncs], settings: Settings) -> None:
        self._now = syncs
        self._limits = bodies.small(settings)
        self._room = bodies.Room(BODIES_MAX, BODIES_MAX * bodies.SMALL_BYTES_MAX)
        self._days = min(settings.sync_days, ACTIVITY_DAYS_MAX)
        self._asking: dict[str, asyncio.Lock] = {}
        self._accounts: dict[tuple[str, str], tuple[float, Sequence[Activity]]] = {}

    @property
    def _syncs(self) -> Syncs:
        return self._now()

    @takes((_ORGANIZATION,), returns=SyncState, statuses=(200, 404, 503))
    async def show(self, request: web.Request) -> web.Response:
        """The last runs of the sync, the newest first, and which are under way"""
        organization = _readable(request)
        mine = [name for name in self._syncs.organizations() if organization in ("", name)]
        memory = self._syncs.memory
        last, reports = await memory.last_reports(), await memory.reports(organization, REPORTS_SHOWN)
        body = {
            "organizations": [
                {
                    "organization": name,
                    "awaited": await memory.awaited(name),
                    "awaited_ids": await memory.awaited_ids(name, AWAITED_SHOWN),
                }
                for name in mine
            ],
            "running": [name for name in self._syncs.running() if organization in ("", name)],
            "last": [told_of(report) for report in last if organization in ("", report.organization)],
            "reports": [told_of(report) for report in reports],
        }
        return answer(200, body)

    @takes(body=SyncRequest, returns=SyncBegun, statuses=(202, *SMALL_WRITE))
    async def begin(self, request: web.Request) -> web.Response:
        """Read generations back from the provider now. 202: begun; GET /api/v1/sync tells how it goes"""
        content_type_of(request, (JSON,))
        with self._room.seat() as seat:
            wanted = decoded(await bodies.read(request, self._limits, seat), SyncRequest)
        known = self._syncs.organizations()
        if wanted.organization and wanted.organization not in known:
            raise invalid("organization", "has no provider key: orgs set --provider-key env:NAME")
        started_ms = clock.now_ms()
        names = [wanted.organization] if wanted.organization else known
        for name in names:
            self._syncs.begin(name, everything=wanted.everything)
        return answer(202, {"organizations": names, "started_at": times.text_of(started_ms * times.MS_NS)})

    @takes(
        (("org", "the organisation's id"), ("day", "a UTC day such as 2026-11-20, of the last 30")),
        required=("org", "day"),
        returns=DayCompared,
        statuses=(200, 404, 409, 422, 503),
    )
    async def compare(self, request: web.Request) -> web.Response:
        """A UTC day of an organisation by the provider's own account, and by ours: what differs, and why"""
        organization = _readable(request)
        if organization not in self._syncs.organizations():
            raise not_found(f"{organization} has no provider key: orgs set --provider-key env:NAME")
        day = _day_of(request, self._days)
        try:
            provider, ours = await self._syncs.day(organization, day)
            if not provider.has_management_key:
                raise Refusal(409, "no_management_key", _MANAGEMENT)
            theirs = [row for one in _around(day) for row in await self._account(organization, provider, one)]
        except GenledgerError as error:
            raise Refusal(503, "provider", str(error), retry_after_s=60) from None
        found = [row for row in compare(theirs, ours) if row.day == day]
        return answer(
            200, {"organization": organization, "day": day, "rows": [_row_of(one) for one in found]}
        )

    async def _account(self, organization: str, provider: Provider, day: str) -> Sequence[Activity]:
        """The provider's account of a day; none of one that is not over, or is before the first it tells of.

        One question at a time for an organisation, and an answer stands for a while: whoever may read here
        could else ask more of the provider than it bears.
        """
        if not _ago(ACTIVITY_DAYS_MAX) <= day <= _ago(1):
            return ()
        async with self._asking.setdefault(organization, asyncio.Lock()):
            known = self._accounts.get((organization, day))
            if known is not None and clock.monotonic_s() - known[0] < ACCOUNT_AGE_S:
                return known[1]
            try:
                rows = await provider.activity(day)
            except ProviderError as error:
                raise GenledgerError(f"the provider's activity of {day}: {error}") from None
            if len(self._accounts) >= ACCOUNTS_MAX:
                del self._accounts[next(iter(self._accounts))]
            self._accounts[organization, day] = clock.monotonic_s(), rows
            return rows


def _ago(days: int) -> str:
    return times.utc_day(clock.now_ms(), days)


def _around(day: str) -> Sequence[str]:
    day_ns = times.midnight_ns(day, "UTC")
    return [times.day_of(day_ns + n * times.DAY_NS, "UTC") for n in (-1, 0, 1)]


def _readable(request: web.Request) -> str:
    """The organisation that is asked about; "" for all. Another's is as if it were not there."""
    own, asked = str(request["organization"]), request.query.get("org", "")
    if own and asked not in ("", own):
        raise not_found("there is no such organisation")
    return own or asked


def _day_of(request: web.Request, days: int) -> str:
    """The day that is asked about: one that both accounts have whole."""
    try:
        day = times.date_text(request.query.get("day", ""))
    except ValueError as error:
        raise invalid("day", str(error)) from None
    if not _ago(days) <= day <= _ago(1):
        raise invalid("day", f"must be a UTC day from {_ago(days)} to {_ago(1)}")
    return day


def _row_of(row: Residue) -> dict[str, Any]:
    """A difference as JSON: money as decimal text."""
    found: dict[str, Any] = _with_text(msgspec.to_builtins(row))
    return found


def _with_text(found: Any) -> Any:
    if isinstance(found, dict):
        return {
            name.removesuffix("_nano"): money.text_of(value) if name.endswith("_nano") else _with_text(value)
            for name, value in found.items()
        }
    return [_with_text(each) for each in found] if isinstance(found, list | tuple) else found


def sync_routes(syncs: Callable[[], Syncs], settings: Settings) -> list[web.RouteDef]:
    """The three routes; `syncs` refuses where nobody syncs now."""
    handlers = SyncRoutes(syncs, settings)
    return [
        web.get("/api/v1/sync", handlers.show),
        web.post("/api/v1/sync", handlers.begin),
        web.get("/api/v1/reconcile/provider", handlers.compare),
    ]
