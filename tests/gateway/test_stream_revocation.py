"""A revoked key shows nothing more, not on a connection that is already open either."""

import asyncio
from pathlib import Path
from typing import Any

from projections.api import routes
from projections.queries import Queries
from projections.summaries import Summaries
from tests.gateway.conftest import Make, make_house
from tests.projections.conftest import database, made_tables, path
from tests.projections.samples import apply, entry, fact

__all__ = ["database", "made_tables", "make_house", "path"]


async def test_an_open_stream_ends_with_its_key(make_house: Make, database: Any, path: Path) -> None:
    """After a reader's key is revoked its open stream of live counters tells no further figure."""
    after = await apply(database, Summaries(), [fact(0, plus=entry())])
    changed = asyncio.Event()

    async def wait(timeout_s: float) -> bool:
        try:
            await asyncio.wait_for(changed.wait(), timeout_s)
        except TimeoutError:
            return False
        changed.clear()
        return True

    queries = await Queries.open(path)
    house = await make_house(extra_routes=routes(queries, lambda: fact(1).time_ms, wait, lambda: {0: 2}))
    try:
        secret = await house.key("acme", "reader")
        headers = {"Authorization": f"Bearer {secret}"}
        async with house.session.get("/api/v1/usage/stream", headers=headers) as stream:
            assert b'"today_requests":1' in await stream.content.readuntil(b"\n\n")
            await house.administration.revoke_key(house.key_id(secret))
            assert (await house.call("GET", "/api/v1/usage/live", secret))[0] == 401
            await apply(database, Summaries(), [fact(1, plus=entry())], after)
            changed.set()
            told = await asyncio.wait_for(stream.content.read(10_000), 5)
            assert b"today_requests" not in told
    finally:
        await queries.close()
