"""OpenRouter as it documents itself: a generation by its id, and completed days' activity. No list.

with Documented([account]) as provider:
    provider.later["gen-acme-000001"] = 2      # 404 twice, then found
    provider.never.add("gen-acme-000002")      # known to the account's activity, but not to be had by id
"""

from dataclasses import dataclass, field

from aiohttp import web

from streams import clock, times
from tests.providers import shapes
from tests.providers.served import Served

ACTIVITY_DAYS = 30


@dataclass
class Documented(Served):
    """GET /generation?id= with an account's key; GET /activity?date= with its management key."""

    later: dict[str, int] = field(default_factory=dict)
    never: set[str] = field(default_factory=set)
    now_ms: int | None = None  # for which days are completed; None: the clock's

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(f"{self.prefix}/generation", self._generation),
            web.get(f"{self.prefix}/activity", self._activity),
        ]

    async def _generation(self, request: web.Request) -> web.Response:
        account = self.account(request)
        if account is None:
            return self.error(401, "User not found.")
        id = request.query.get("id", "")
        call = account.call(id)
        waits = self.later.get(id, 0)
        if waits > 0:
            self.later[id] = waits - 1
        if call is None or waits > 0 or id in self.never:
            return self.error(404, f"Generation {id} not found")
        return self.answer(self.check(shapes.GENERATION_ANSWER, b'{"data":' + call.answer() + b"}"))

    async def _activity(self, request: web.Request) -> web.Response:
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
