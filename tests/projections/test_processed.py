"""One row for each generation id."""

from projections.processed import Processed
from tests.projections.samples import DAY, NOON_MS, apply, entry, fact, reading, row_of

PROCESSED = Processed()


async def test_a_row_has_the_newest_values_and_the_first_time(database, path):
    """An amendment changes what the row says, not when the generation was first taken."""
    after = await apply(database, PROCESSED, [fact(0, plus=entry(cost_nano=None))])
    assert row_of(path, "processed_generations")["total_cost"] is None
    new = entry(day="2026-11-21", cost_nano=2_000_000_000, total_tokens=20)
    await apply(database, PROCESSED, [fact(1, "amended", id="gen-0", minus=entry(), plus=new)], after)
    row = row_of(path, "processed_generations")
    assert row == {
        "id": "gen-0",
        "client_org_id": "acme",
        "generation_date": "2026-11-21",
        "processed_at": NOON_MS // 1000,
        "total_cost": 2.0,
        "total_tokens": 20,
        "total_cost_nano": 2_000_000_000,
    }


async def test_a_log_clock_that_went_back_moves_the_first_time(database, path):
    """The first log time is the least one, however the clock ran."""
    after = await apply(database, PROCESSED, [fact(0, plus=entry())])
    late = fact(1, "amended", id="gen-0", minus=entry(), plus=entry(cost_nano=1), time_ms=NOON_MS - 3_600_000)
    await apply(database, PROCESSED, [late], after)
    assert row_of(path, "processed_generations")["processed_at"] == NOON_MS // 1000 - 3600


async def test_a_voided_id_keeps_its_row_with_zeros(database, path):
    """A void is remembered, and worth nothing."""
    void = fact(1, "voided", id="gen-0", minus=entry(), plus=entry(requests=0))
    await apply(database, PROCESSED, [fact(0, plus=entry()), void])
    row = row_of(path, "processed_generations")
    assert (row["total_cost_nano"], row["total_tokens"], row["generation_date"]) == (0, 0, DAY)


async def test_a_forgotten_id_loses_its_row_and_may_come_again(database, path):
    """After it was forgotten an id that is forced in again starts anew."""
    after = await apply(database, PROCESSED, [fact(0, plus=entry())])
    after = await apply(database, PROCESSED, [fact(1, "forgotten", id="gen-0")], after)
    with reading(path) as connection:
        assert connection.execute("SELECT count(*) FROM processed_generations").fetchone()[0] == 0
    again = [fact(2, id="gen-0", plus=entry()), fact(3, "forgotten", id="gen-0")]
    await apply(database, PROCESSED, [*again, fact(4, id="gen-0", plus=entry())], after)
    assert row_of(path, "processed_generations")["processed_at"] == NOON_MS // 1000 + 4


async def test_a_balance_and_what_does_not_count_have_no_row(database, path):
    """Only ids that were taken have a row; an opening entry of a known id has one."""
    items = [
        fact(0, "opening", plus=entry(margin="day")),
        fact(1, "duplicate", plus=entry()),
        fact(2, "quarantined"),
        fact(3, "opening", plus=entry()),
    ]
    await apply(database, PROCESSED, items)
    assert row_of(path, "processed_generations")["id"] == "gen-3"
