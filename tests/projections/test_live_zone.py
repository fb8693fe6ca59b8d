"""Live counters of an organisation whose timezone was changed."""

from pathlib import Path
from typing import Any

import pytest

from projections.queries import Queries
from projections.summaries import Summaries
from streams.organizations import Change, Organization
from streams.times import DAY_NS, nanoseconds_of
from tests.ledger.sim import NOON_MS, Sim
from tests.projections.samples import apply


@pytest.mark.asyncio
async def test_a_late_event_of_the_old_zone(database: Any, path: Path) -> None:
    """Readers reckon an organisation's day by its zone now, not by the zone of the newest fact's own date."""
    sim = Sim(NOON_MS)  # 2026-11-20T12:00Z: the 21st in Auckland
    now_ns = NOON_MS * 1_000_000
    history = (
        Change(effective_ns=0, logged_ms=0, timezone="Pacific/Auckland"),
        Change(effective_ns=now_ns - DAY_NS, logged_ms=0, timezone="UTC"),
    )
    sim.directory._organizations["acme"] = Organization(id="acme", created_ms=0, history=history)
    sim.post(id="today", created_at="2026-11-20T11:00:00Z", cost="1").run()
    sim.time_ms += 1000
    sim.post(id="late", created_at="2026-11-18T11:00:00Z", cost="1").run()
    await apply(database, Summaries(), sim.facts)
    queries = await Queries.open(path)
    try:
        [live] = (await queries.live(sim.time_ms + 1000)).rows
        daily = (await queries.usage("daily", "acme", "2026-11-20", "2026-11-20")).rows
    finally:
        await queries.close()
    assert daily[0]["total_requests"] == 1
    assert (live["current_date"], live["today_requests"]) == ("2026-11-20", 1)
    assert nanoseconds_of("2026-11-20T12:00:00Z") == now_ns
