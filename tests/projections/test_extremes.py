"""The largest figures that the door takes, added up."""

from pathlib import Path
from typing import Any

import pytest

from projections.queries import Queries
from projections.summaries import Summaries
from projections.view import START
from streams.money import COST_NANO_MAX, marked_up
from tests.projections.samples import apply, entry, fact, row_of

DEAR = marked_up(COST_NANO_MAX, "1000")  # 10**18, a ninth of what 64 bits hold


def _dear(n: int) -> Any:
    return fact(n, plus=entry(cost_nano=COST_NANO_MAX, markup_nano=DEAR))


@pytest.mark.asyncio
async def test_ten_dear_generations_in_one_batch(database: Any, path: Path) -> None:
    """Sums beyond 64 bits do not stop the view: they stay at the bound."""
    await apply(database, Summaries(), [_dear(n) for n in range(10)])
    assert row_of(path, "client_daily_usage")["total_requests"] == 10


@pytest.mark.asyncio
async def test_ten_dear_generations_one_by_one(database: Any, path: Path) -> None:
    """The same, by additions in SQLite."""
    position = START
    for n in range(10):
        position = await apply(database, Summaries(), [_dear(n)], position)
    assert row_of(path, "client_daily_usage")["total_requests"] == 10


@pytest.mark.asyncio
async def test_a_statement_beyond_64_bits(database: Any, path: Path) -> None:
    """A month's sum may be more than 64 bits though each day's is not."""
    facts = [
        fact(n, plus=entry(day=f"2026-11-{day:02}", cost_nano=COST_NANO_MAX, markup_nano=DEAR))
        for n, day in enumerate([1] * 6 + [2] * 6)
    ]
    await apply(database, Summaries(), facts)
    queries = await Queries.open(path)
    try:
        rows = await queries.statement("acme", "2026-11", "model")
    finally:
        await queries.close()
    assert sum(row["markup_cost_nano"] for row in rows) == 12 * DEAR
