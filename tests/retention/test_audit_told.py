"""What is told of runs: over HTTP, in metrics, as an alarm, and in one line a run."""

import logging
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from genledger.roles.cleanup_audit import FILE, GRACE_S, MISSED_AFTER_S, Looker, Seen, alarm_of, line_of
from projections import api, runs, shapes
from projections.cleanup import Cleanup
from projections.queries import Queries
from projections.summaries import Summaries
from streams import clock, metrics
from streams.settings import Settings
from tests.gateway.conftest import House, Make, make_house
from tests.projections.samples import applied
from tests.projections.samples import records as as_records
from tests.retention.audited import CUTOFF_NS, NOON_MS, Ledger, night

__all__ = ["make_house"]

RUNS = "/api/v1/admin/cleanup/runs"
DAY_S = 86_400


@pytest_asyncio.fixture
async def queries(database: Any, path: Any) -> Any:
    queries = await Queries.open(path)
    yield queries
    await queries.close()


async def put(database: Any, ledger: Ledger, *views: Any) -> None:
    for view in views or (Cleanup(),):
        await applied(database, view, "usage", ledger.partition, as_records(ledger.told))


@pytest_asyncio.fixture
async def house(make_house: Make, queries: Queries) -> House:
    async def ends(_: Any) -> dict[int, int]:
        return {}

    routes = api.routes(queries, clock.now_ms, None, ends)  # type: ignore[arg-type]
    return await make_house(extra_routes=routes)  # type: ignore[no-any-return]


async def test_a_run_is_told_with_the_seeds_dictionary(database: Any, house: House) -> None:
    """All of its fields, money as decimal text, and what went of each organisation."""
    await put(database, night())
    status, told = await house.call("GET", f"{RUNS}/night-1")
    assert status == 200
    assert told == {
        "run": "night-1",
        "state": "ended",
        "success": True,
        "cleanup_date": "2026-11-20T12:00:01Z",
        "cutoff_date": "2026-11-20",
        "days_retained": 90,
        "records_before": 14,
        "records_deleted": 8,
        "records_remaining": 6,
        "old_tokens_removed": 330,
        "old_cost_removed": "0.004",
        "storage_saved_kb": 7.36,
        "cleanup_duration_seconds": 1.0,
        "error_message": None,
        "organizations": 2,
        "organization_breakdown": {
            "acme": part(5, 205, "0.0025"),
            "globex": part(3, 125, "0.0015"),
        },
    }
    assert (await house.call("GET", RUNS))[1] == {"rows": [told], "truncated": False}


def part(records: int, tokens: int, cost: str) -> dict[str, Any]:
    days = {"oldest_date": "2026-11-19", "newest_date": "2026-11-19"}
    return {"records_deleted": records, "old_tokens_removed": tokens, "old_cost_removed": cost, **days}


async def test_a_run_is_told_while_it_runs_and_when_it_has_failed(database: Any, house: House) -> None:
    """So far, with no word of success before it is over; the newest first."""
    ledger = Ledger().call("a").begin("bad").end("bad", error="the disk is full")
    ledger.begin("now").forget("a", "now")
    await put(database, ledger)
    answer = (await house.call("GET", RUNS))[1]
    now, bad = msgspec.convert(answer, shapes.CleanupRuns).rows
    assert (now.run, now.state, now.success, now.records_deleted) == ("now", "running", None, 1)
    assert (bad.run, bad.state, bad.success, bad.error_message) == (
        "bad",
        "failed",
        False,
        "the disk is full",
    )


async def test_runs_that_are_not_known_and_bad_limits_are_refused(database: Any, house: House) -> None:
    """404 and 400; a page is cut where it was asked to be."""
    await put(database, Ledger().begin("a").end("a").begin("b").end("b"))
    assert (await house.call("GET", f"{RUNS}/nothing"))[0] == 404
    for limit in ("0", "-1", "x", "367", "1e1"):
        status, body = await house.call("GET", f"{RUNS}?limit={limit}")
        assert (status, body["error"]["field"]) == (400, "limit")
    page = (await house.call("GET", f"{RUNS}?limit=1"))[1]
    assert ([row["run"] for row in page["rows"]], page["truncated"]) == (["b"], True)


async def test_only_administrators_of_all_are_told(house: House) -> None:
    """It names every organisation."""
    administrator = await house.key("", "admin")
    others = [await house.key("acme", rights) for rights in ("reader", "producer", "admin")]
    for key, told, absent in [(administrator, 200, 404), *((key, 403, 403) for key in others)]:
        assert (await house.call("GET", RUNS, key))[0] == told
        assert (await house.call("GET", f"{RUNS}/r", key))[0] == absent


async def test_the_breakdown_has_the_largest_and_says_how_many_there_are(
    database: Any, queries: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer is bounded, whatever there is."""
    await put(database, night())
    monkeypatch.setattr(runs, "ORGANIZATIONS_MAX", 1)
    told = await queries.cleanup_run("night-1")
    assert told is not None
    assert (list(told["organization_breakdown"]), told["organizations"]) == (["acme"], 2)


async def test_a_large_run_takes_no_room_from_a_small_one(
    database: Any, queries: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several runs each has its share of the answer, and its own count."""
    next_ns = CUTOFF_NS + DAY_S * 10**9
    ledger = night().call("late", "globex", created_at="2026-11-20T10:00:00Z")
    ledger.begin("night-2", cutoff_ns=next_ns)
    for id in ("new-0", "late"):
        ledger.forget(id, "night-2", cutoff_ns=next_ns)
    await put(database, ledger.end("night-2"))
    monkeypatch.setattr(runs, "ORGANIZATIONS_MAX", 2)
    found = (await queries.cleanup_runs()).rows
    assert [(row["run"], list(row["organization_breakdown"]), row["organizations"]) for row in found] == [
        ("night-2", ["acme"], 2),
        ("night-1", ["acme"], 2),
    ]


def looker(queries: Queries, path: Any, **changes: Any) -> Looker:
    return Looker(queries, Settings(data=str(path.parent), **changes))


def gauges() -> tuple[float, float]:
    found = (metrics.CLEANUP_LAST_SUCCESS, metrics.CLEANUP_LAST_FAILED)
    return tuple(one.collect()[0].samples[0].value for one in found)  # type: ignore[return-value]


async def test_a_run_has_one_line_also_after_a_restart(
    database: Any, path: Any, queries: Queries, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told when its row first appears, by whoever keeps the views then, and by nobody again."""
    caplog.set_level(logging.INFO)
    await looker(queries, path).look()
    await put(database, night())
    first = looker(queries, path)
    for _ in range(2):
        await first.look()
    await looker(queries, path).look()
    lines = [record.getMessage() for record in caplog.records if "ids forgotten" in record.getMessage()]
    assert lines == ["cleanup: 8 ids forgotten, ~7.4 KB, 1.00 s"]
    assert gauges() == (NOON_MS // 1000 + 2, 0)


async def test_rows_from_before_anybody_looked_are_no_news(
    database: Any, path: Any, queries: Queries, caplog: pytest.LogCaptureFixture
) -> None:
    """Of views put back, or made by another machine, nothing is told again."""
    caplog.set_level(logging.INFO)
    await put(database, night())
    await looker(queries, path).look()
    (path.parent / FILE).write_text("{")  # what can't be read is as if it were not there
    await looker(queries, path).look()
    assert "ids forgotten" not in caplog.text


async def test_a_failed_run_shows_in_metric_and_alarm(database: Any, path: Any, queries: Queries) -> None:
    """Until the next one goes well; the time of the last success stays."""
    ledger = Ledger().begin("well").end("well").begin("bad").end("bad", error="the disk is full")
    await put(database, ledger)
    one = looker(queries, path)
    await one.look()
    assert gauges() == (NOON_MS // 1000 + 2, 1)
    assert one.alarm() == "the last run failed (bad): the disk is full. The next night tries again"
    off = looker(queries, path, cleanup_enabled=False)
    await off.look()
    assert gauges() == (0, 1)


async def test_an_empty_installation_has_nothing_to_miss(path: Any, queries: Queries) -> None:
    """No ids, no days, no runs."""
    one = looker(queries, path)
    await one.look()
    assert (one.seen, one.alarm()) == (Seen(), "")


async def test_what_a_missed_night_is_told_by_is_in_the_views(
    database: Any, path: Any, queries: Queries
) -> None:
    """How many ids, the oldest day, and since when there is anybody."""
    await put(database, Ledger().call("a").call("b"), Cleanup(), Summaries())
    one = looker(queries, path)
    await one.look()
    assert one.seen == Seen(None, 2, "2026-11-19", NOON_MS // 1000, 0)


OLD = Seen(ids=5, oldest_day="2026-01-01", since_s=NOON_MS // 1000 - 300 * DAY_S)
NOW_S = NOON_MS // 1000
ROW = {"id": "r", "success": 1, "error_message": None}


@pytest.mark.parametrize(
    ("seen", "rings"),
    [
        (OLD, True),
        (msgspec.structs.replace(OLD, last_s=NOW_S - MISSED_AFTER_S - 1), True),
        (msgspec.structs.replace(OLD, last_s=NOW_S - MISSED_AFTER_S), False),
        (msgspec.structs.replace(OLD, newest=ROW, last_s=NOW_S - DAY_S), False),
        # A new installation, of a migration's old days too; young days; nothing to forget.
        (msgspec.structs.replace(OLD, since_s=NOW_S - DAY_S), False),
        (msgspec.structs.replace(OLD, oldest_day="2026-08-22"), False),
        (msgspec.structs.replace(OLD, oldest_day="2026-08-21"), True),
        (msgspec.structs.replace(OLD, ids=0), False),
        (Seen(), False),
    ],
)
def test_a_missed_night_rings_where_there_was_something_to_do(seen: Seen, rings: bool) -> None:
    """No success for a night and a little more, and ids that are old enough."""
    assert bool(alarm_of(seen, NOW_S, Settings())) == rings
    assert alarm_of(seen, NOW_S, Settings(cleanup_enabled=False)) == ""
    assert alarm_of(seen, NOW_S, Settings(cleanup_at="")) == ""
    assert alarm_of(seen, NOW_S, Settings(), is_new=True) == ""


def test_a_missed_night_is_told_with_what_to_do() -> None:
    """Since when, and where to look."""
    told = alarm_of(msgspec.structs.replace(OLD, last_s=NOW_S - 2 * DAY_S), NOW_S, Settings())
    assert told == (
        "no run has ended well since 2026-11-18T12:00:00Z, and there are ids older than 90 days:"
        " see `genledger status`"
    )
    assert alarm_of(OLD, NOW_S, Settings()).startswith("no run has ended well yet, and")
    assert GRACE_S + DAY_S == MISSED_AFTER_S


def test_a_failed_run_s_line_says_so() -> None:
    """With what it had done by then."""
    row = {
        "records_deleted": 12_345,
        "storage_saved_kb": 1234.5,
        "cleanup_duration_seconds": 1.5,
        "success": 0,
    }
    assert line_of(row) == "cleanup: 12,345 ids forgotten, ~1,234.5 KB, 1.50 s, and the run failed"
