"""OpenRouter as it documents itself: a generation by its id, and completed days' activity. No list.

    with Documented([account]) as provider:
        provider.later["gen-acme-000001"] = 2      # 404 twice, then found
        provider.never.add("gen-acme-000002")      # known to the account's activity, but not to be had by id

The rest of a fake is in `served.py`.
"""

from dataclasses import dataclass, field

from aiohttp import web

from tests.providers import shapes
from tests.providers.served import Served


@dataclass
class Documented(Served):
    """GET /generation?id= with an account's key; GET /activity?date= with its management key."""

    later: dict[str, int] = field(default_factory=dict)
    never: set[str] = field(default_factory=set)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(f"{self.prefix}/generation", self._generation),
            web.get(f"{self.prefix}/activity", self.activity),
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
