"""What the ledger holds of many ids at once: how the sync, in another process, asks a ledger worker.

    POST /api/v1/winners {"ids": ["gen-1", "gen-2"]}      {"winners": {"gen-1": {...the event...}}}

Only on a ledger worker's own port, for an administrator of the installation: ids of all organisations.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated

import msgspec
from aiohttp import web

from streams import generation
from streams.gateway.answers import Refusal, answer
from streams.generation import Generation

IDS_MAX = 1000
PATH = "/api/v1/winners"

Winners = Callable[[Sequence[str]], Awaitable[Mapping[str, Generation]]]


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which ids."""

    ids: Annotated[list[str], msgspec.Meta(max_length=IDS_MAX)]


class Told(msgspec.Struct, frozen=True):
    """The winner of each id that is known."""

    winners: dict[str, msgspec.Raw]


def winners_route(winners: Winners) -> web.RouteDef:
    """The route, over what this process knows."""

    async def told(request: web.Request) -> web.Response:
        """The winning version of each of these ids that is known."""
        try:
            asked = msgspec.json.decode(await request.read(), type=Asked)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refusal(422, "invalid", str(error), "ids") from None
        found = await winners(asked.ids)
        return answer(200, Told({id: msgspec.Raw(generation.encode(e)) for id, e in found.items()}))

    told.documented = {"statuses": (200, 413, 422)}  # type: ignore[attr-defined]
    return web.post(PATH, told)
