"""How far a run of the retention job has come in a ledger worker's partitions, and what one would forget.

    GET  /api/v1/cleanup/stands                 {"partitions": [{"partition": 0, "run": "...", ...}]}
    POST /api/v1/cleanup/count {"cutoff_ns": 1787270400000000000, "partitions": [0, 2]}
                                {"organizations": {"acme": {"ids": 12, "tokens": 340, "cost_nano": 5600}}}

Only on a ledger worker's own port, for an administrator of the installation: the jobs leader asks.
"""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Annotated, Protocol

import msgspec
from aiohttp import web

from streams.errors import LogUnavailable
from streams.gateway.answers import Refusal, answer
from streams.retention import Stand
from streams.sweeper import Count

STANDS = "/api/v1/cleanup/stands"
COUNT = "/api/v1/cleanup/count"
PARTITIONS_MAX = 10_000
RETRY_AFTER_S = 1.0


class Counting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ids with nothing as late as this are worth, in these partitions."""

    cutoff_ns: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    partitions: Annotated[list[int], msgspec.Meta(max_length=PARTITIONS_MAX)]


class Counted(msgspec.Struct, frozen=True):
    """That, by organisation."""

    organizations: Mapping[str, Count]


class Stands(msgspec.Struct, frozen=True):
    """How the newest run stands, in each partition of this worker."""

    partitions: Sequence[Stand]


class Asked(Protocol):
    """Who knows: the ledger of this process."""

    def stands(self) -> Sequence[Stand]: ...

    def count(self, cutoff_ns: int, partitions: Sequence[int]) -> Awaitable[Mapping[str, Count]]: ...


def sweeps_routes(ledger: Asked) -> Sequence[web.RouteDef]:
    """The two routes, over what this process knows."""

    async def stands(request: web.Request) -> web.Response:
        """How far the newest run of the retention job has come in each partition of this worker."""
        return answer(200, Stands(ledger.stands()))

    async def count(request: web.Request) -> web.Response:
        """What a run with this cutoff would forget here, by organisation: takes as long as a walk takes."""
        try:
            asked = msgspec.json.decode(await request.read(), type=Counting)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refusal(422, "invalid", str(error), "cutoff_ns") from None
        try:
            return answer(200, Counted(await ledger.count(asked.cutoff_ns, asked.partitions)))
        except LogUnavailable as error:  # it has just been given to another, or is being read back
            raise Refusal(503, "not_here", str(error), "partitions", retry_after_s=RETRY_AFTER_S) from None

    # Organisations' figures, and of all of them: no organisation's own key may ask.
    stands.documented = {"need": "settings"}  # type: ignore[attr-defined]
    count.documented = {"statuses": (200, 413, 422, 503)}  # type: ignore[attr-defined]
    return [web.get(STANDS, stands), web.post(COUNT, count)]
