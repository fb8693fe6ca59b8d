"""The read routes over real HTTP, and the statement of usage."""

import asyncio
import csv
import io
import json
import sqlite3
from contextlib import closing

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from projections import report, schema
from projections.api import routes
from projections.books import balance
from projections.queries import Queries, statement_query, usage_query
from projections.summaries import Summaries
from streams.errors import ViewError
from tests.projections.samples import DAY, NOON_MS, apply, entry, fact

FACTS = [
    fact(0, plus=entry(cost_nano=12_300_000, markup_nano=15_990_000, user_id="u-1")),
    fact(1, plus=entry(user="=cmd()", model="-m", day="2026-11-19")),
    fact(2, plus=entry("globex", model="@x", cost_nano=None, markup_nano=None)),
]


class Changed:
    """The follower's notifier: waiters go on when it is set."""

    def __init__(self):
        self.event = asyncio.Event()

    async def wait(self, timeout_s):
        try:
            await asyncio.wait_for(self.event.wait(), timeout_s)
        except TimeoutError:
            return False
        self.event.clear()
        return True


@pytest_asyncio.fixture
async def service(database, path):
    """A server, its client, and what a test may turn: the caller's organisation, the clock, the notifier."""
    service = {
        "ends": {0: 3},
        "organization": "",
        "now_ms": NOON_MS,
        "changed": Changed(),
        "database": database,
    }

    @web.middleware
    async def gateway(request, handler):
        request["organization"] = service["organization"]
        return await handler(request)

    service["after"] = await apply(database, Summaries(), FACTS)
    queries = await Queries.open(path)

    async def ends(nexts):
        service["asked"] = nexts
        return service["ends"]

    app = web.Application(middlewares=[gateway])
    app.add_routes(routes(queries, lambda: service["now_ms"], service["changed"].wait, ends))
    async with TestClient(TestServer(app)) as client:
        service["client"], service["queries"] = client, queries
        yield service
    await queries.close()


async def get(service, path, **headers):
    answer = await service["client"].get(path, headers=headers)
    return answer.status, await answer.json()


async def test_days_are_the_tables_rows_with_money_as_text(service):
    """Figures come as the table has them, money as exact decimal text."""
    status, body = await get(service, f"/api/v1/usage/daily?org=acme&from={DAY}&to={DAY}")
    assert status == 200
    (row,) = body["rows"]
    assert (row["raw_cost"], row["markup_cost"]) == ("0.0123", "0.01599")
    assert (row["usage_date"], row["primary_model"], row["unique_users"]) == (DAY, "m", 1)
    assert (row["total_requests"], row["created_at"]) == (1, NOON_MS // 1000)
    assert not body["truncated"]


async def test_users_and_models_have_a_route_each(service):
    """Users carry both their names, models their provider."""
    _, users = await get(service, "/api/v1/usage/users?org=acme")
    assert [(r["openrouter_user_id"], r["user_id"]) for r in users["rows"]] == [
        ("=cmd()", "=cmd()"),
        ("alice", "u-1"),
    ]
    _, models = await get(service, "/api/v1/usage/models")
    assert [(r["client_org_id"], r["model_name"], r["provider"]) for r in models["rows"]] == [
        ("acme", "-m", "P"),
        ("acme", "m", "P"),
        ("globex", "@x", "P"),
    ]


@pytest.mark.parametrize(
    "route", ["usage/daily", "usage/users", "usage/models", "usage/live", "usage/stream"]
)
async def test_another_organisation_is_not_found(service, route):
    """A caller bound to one organisation gets 404 for another, whether that one exists or not."""
    service["organization"] = "acme"
    for other in ("globex", "nobody", ""):
        status, body = await get(service, f"/api/v1/{route}?org={other}")
        assert (status, body["error"]["code"]) == (404, "not_found")
    assert (await get(service, "/api/v1/books"))[0] == 404


async def test_a_bound_caller_sees_its_own_without_asking(service):
    """Without `org` the caller's own organisation is meant."""
    service["organization"] = "globex"
    _, body = await get(service, "/api/v1/usage/daily")
    assert [row["client_org_id"] for row in body["rows"]] == ["globex"]
    _, body = await get(service, "/api/v1/usage/live")
    assert [row["client_org_id"] for row in body["rows"]] == ["globex"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=2026-02-30", "from"),
        ("to=yesterday", "to"),
        ("to=2026-11-20' OR 1=1", "to"),
        ("from=2026-11-20&to=2026-11-19", "to"),
        ("from=", "from"),
    ],
)
async def test_a_bad_date_is_named(service, query, field):
    """A date that is none is a 400 that names the field."""
    status, body = await get(service, f"/api/v1/usage/daily?{query}")
    assert (status, body["error"]["field"]) == (400, field)


async def test_csv_has_no_formulas_and_its_numbers_stay_numbers(service):
    """What a spreadsheet would run is quoted; figures are left alone."""
    answer = await service["client"].get("/api/v1/usage/users?org=acme", headers={"Accept": "text/csv"})
    assert answer.content_type == "text/csv"
    rows = list(csv.DictReader(io.StringIO(await answer.text())))
    assert [row["openrouter_user_id"] for row in rows] == ["'=cmd()", "alice"]
    assert [row["raw_cost"] for row in rows] == ["0.0000001", "0.0123"]
    answer = await service["client"].get("/api/v1/usage/models", headers={"Accept": "text/csv;q=1, */*"})
    assert [row["model_name"] for row in csv.DictReader(io.StringIO(await answer.text()))] == [
        "'-m",
        "m",
        "'@x",
    ]
    answer = await service["client"].get("/api/v1/usage/users?org=nobody", headers={"Accept": "text/csv"})
    assert (await answer.text()).startswith("id,client_org_id,usage_date,user_id,openrouter_user_id,")


async def test_live_counters_are_zeros_once_their_day_has_passed(service):
    """The row stays; who reads it after the local midnight sees a new day of zeros."""
    _, body = await get(service, "/api/v1/usage/live?org=acme")
    (row,) = body["rows"]
    assert (row["current_date"], row["today_requests"], row["today_raw_cost"]) == (DAY, 1, "0.0123")
    service["now_ms"] = NOON_MS + 12 * 3_600_000
    _, body = await get(service, "/api/v1/usage/live?org=acme")
    (row,) = body["rows"]
    assert (row["current_date"], row["today_requests"], row["today_raw_cost"]) == ("2026-11-21", 0, "0")
    assert row["last_updated"] == NOON_MS // 1000 + 1


async def next_event(response):
    while True:
        block = await asyncio.wait_for(response.content.readuntil(b"\n\n"), 5)
        if block.startswith(b"event: live"):
            return json.loads(block.partition(b"data: ")[2])["rows"]


async def test_the_stream_sends_the_counters_whenever_they_change(service):
    """A listener gets the counters at once and again after a change of its own."""
    async with service["client"].get("/api/v1/usage/stream?org=acme") as response:
        assert response.content_type == "text/event-stream"
        assert (await next_event(response))[0]["today_requests"] == 1
        await apply(service["database"], Summaries(), [fact(3, plus=entry())], service["after"])
        service["changed"].event.set()
        assert (await next_event(response))[0]["today_requests"] == 2


async def test_the_books_balance_or_say_what_is_missing(service, database):
    """Records that were read and have no fate are the residue; what was not read yet is in flight."""
    _, body = await get(service, "/api/v1/books")
    row = {"partition": 0, "records": 3, "read": 3, "in_flight": 0, "residue": 0, "fates": {"counted": 3}}
    assert body == {"balanced": True, "partitions": [row]}
    service["ends"] = {0: 5, 1: 1}
    _, body = await get(service, "/api/v1/books")
    assert body["balanced"] and [row["in_flight"] for row in body["partitions"]] == [2, 1]
    database._connection.execute("UPDATE books SET records = 2")
    _, body = await get(service, "/api/v1/books")
    assert not body["balanced"] and body["partitions"][0]["residue"] == 1


async def test_the_books_balance_where_offsets_have_gaps(service):
    """The books count records: an offset that a transaction's marker took is none, read or not."""
    behind_markers = [
        fact(4, prev=2, number=4, plus=entry()),
        fact(8, prev=4, number=5, plus=entry()),
    ]
    await apply(service["database"], Summaries(), behind_markers, service["after"])
    service["ends"] = {0: 11}
    _, body = await get(service, "/api/v1/books")
    row = {"partition": 0, "records": 7, "read": 5, "in_flight": 2, "residue": 0, "fates": {"counted": 5}}
    assert body == {"balanced": True, "partitions": [row]}
    assert service["asked"] == {0: 9}


async def test_the_books_balance_after_an_upgrade(tmp_path):
    """Positions from before records were counted are of logs without gaps: they balance as they did."""
    path = tmp_path / "old.db"
    schema.upgrade(path, "20261121_003")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("""
            INSERT INTO positions VALUES ('summaries', 0, 3, 2, 'd', 1), ('processed', 0, 3, 2, 'd', 1);
            INSERT INTO books VALUES (0, 'counted', 2), (0, 'duplicate', 1);""")
    schema.upgrade(path)
    queries = await Queries.open(path)
    fates, read = await queries.books()
    await queries.close()
    (row,) = balance(fates, read, {0: 4})
    assert (row.read, row.residue, row.in_flight, row.balanced) == (3, 0, 1, True)


async def test_an_answer_is_bounded_and_says_so(service):
    """More rows than an answer may hold are cut off, visibly."""
    page = await service["queries"].usage("models", limit=2)
    assert (len(page.rows), page.truncated) == (2, True)


@pytest.mark.parametrize("by", ["user", "model", "day"])
async def test_a_statement_adds_up(service, by):
    """However a month is split, its sums are the same, to the nano-dollar."""
    statement = await report.made(service["queries"], "acme", "2026-11", by)
    assert len(statement.lines) == 2
    assert statement.total["raw_cost"] == "0.0123001"
    assert statement.total["markup_cost"] == "0.01599013"
    assert (statement.total["requests"], statement.total["total_tokens"]) == (2, 30)
    rows = list(csv.DictReader(io.StringIO(report.as_csv(statement))))
    assert (rows[-1][by], rows[-1]["raw_cost"]) == ("total", "0.0123001")
    assert json.loads(report.as_json(statement))["total"]["raw_cost"] == "0.0123001"
    empty = await report.made(service["queries"], "acme", "2026-10", by)
    assert (empty.lines, empty.total["raw_cost"]) == ([], "0")


async def test_a_month_that_is_none_is_refused(service):
    """A statement is for a month as YYYY-MM."""
    with pytest.raises(ValueError, match="date"):
        await report.made(service["queries"], "acme", "2026-13", "day")


async def test_readers_can_not_write(service):
    """The questions' connection is read-only."""
    with pytest.raises(ViewError, match="readonly"):
        await service["queries"]._all("DELETE FROM books")


async def test_a_missing_database_is_not_made_by_asking(tmp_path):
    """Opening a file that is not there is an error."""
    with pytest.raises(ViewError, match="can't be opened"):
        await Queries.open(tmp_path / "nowhere.db")


@pytest.mark.parametrize("kind", ["daily", "users", "models"])
@pytest.mark.parametrize("organization", ["", "acme"])
def test_questions_use_an_index(path, kind, organization):
    """No question about usage reads a whole table."""
    queries = [usage_query(kind, organization, DAY, DAY, 10), statement_query("acme", "2026-11", "user")]
    with closing(sqlite3.connect(path)) as connection:
        for query, values in queries:
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]
            assert any("USING INDEX" in step for step in plan), plan
            assert not any(step.startswith("SCAN") for step in plan), plan


async def test_an_empty_organisation_is_not_everybody(service):
    """A script's empty variable is refused; leaving the parameter out means all."""
    for route in ("usage/daily", "usage/users", "usage/models", "usage/live", "usage/stream"):
        status, body = await get(service, f"/api/v1/{route}?org=")
        assert (status, body["error"]["field"]) == (400, "org")


def test_every_route_notes_the_parameters_it_knows():
    """The gateway refuses any other, so a route that lost its note would refuse its own."""
    noted = {
        route.path: [name for name, _ in getattr(route.handler, "query", ())]
        for route in routes(None, None, None, None)
    }
    days, org = ["org", "from", "to"], ["org"]
    pages = [*days, "model", "limit", "cursor"]
    assert list(noted.values()) == [days, days, days, pages, org, org, [], days, ["limit"], []]
