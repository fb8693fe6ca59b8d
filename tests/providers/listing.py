"""A provider with the seed's list route: GET /generations?limit=&offset=, newest first, 100 a page at most.

    with Listing([account]) as provider:             # GENLEDGER_PROVIDER_LIST=/generations
        provider.coming["acme"] = [call, ...]        # not in the list yet
        provider.per_page = 3                        # so many of them come in after each page that is read

A coming call takes its place by its own date; with `by_arrival` it comes in at the front, whatever its date.
"""

from dataclasses import dataclass, field

from aiohttp import web

from tests.providers import shapes
from tests.providers.account import Account, Call
from tests.providers.served import Served

ROUTE = "/generations"
PAGE_MAX = 100


@dataclass
class Listing(Served):
    """The list with an account's key, and /activity. It knows no generation by its id."""

    coming: dict[str, list[Call]] = field(default_factory=dict)
    per_page: int = 0
    by_arrival: bool = False

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(f"{self.prefix}{ROUTE}", self._list),
            web.get(f"{self.prefix}/activity", self.activity),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        account = self.account(request)
        if account is None:
            return self.error(401, "User not found.")
        offset = int(request.query.get("offset", "0"))
        limit = min(PAGE_MAX, int(request.query.get("limit", "50")))
        page = self.shown(account)[offset : offset + limit]
        entries = [call.answer() for call in page]
        for entry in entries:
            self.check(shapes.LIST_ANSWER, b'{"data":[' + entry + b"]}")
        self.grow(account, self.per_page)
        return self.answer(b'{"data":[' + b",".join(entries) + b"]}")

    def grow(self, account: Account, count: int) -> None:
        """So many of the coming calls come in."""
        coming = self.coming.get(account.organization, [])
        account.calls.extend(coming[:count])
        del coming[:count]

    def shown(self, account: Account) -> list[Call]:
        """The list as it stands, newest first."""
        if self.by_arrival:
            return account.calls[::-1]
        return sorted(account.calls, key=lambda call: (call.created_ns, call.id), reverse=True)
