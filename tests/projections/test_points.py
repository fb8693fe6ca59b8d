"""Raw points in SQLite: one row for each call that counts, and the route that shows them."""

import csv
import io
import re
import sqlite3
from contextlib import closing

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from genledger.roles.views import views_of
from projections import raw
from projections.api import routes
from projections.digest import digest
from projections.points import Points
from projections.queries import Queries
from projections.rebuild.plan import parts_of
from streams.settings import Settings
from tests.projections.samples import DAY, NOON_MS, apply, entry, fact, reading, row_of

POINTS = Points()
NOON_NS = NOON_MS * 1_000_000
HOUR_NS = 3_600 * 10**9


def call(offset, organization="acme", hours=0, **fields):
    """A call that counts, so many hours after noon."""
    made = {"created_ns": NOON_NS + hours * HOUR_NS + offset, "source": "native", "latency_ms": 7} | fields
    return fact(offset, plus=entry(organization, **made))


def ids(path):
    with reading(path) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM usage_points ORDER BY id")]


async def test_a_row_is_what_the_call_was(database, path):
    """Every figure is there exactly, and as REAL; who was not mapped is his own user."""
    await apply(database, POINTS, [call(0)])
    assert row_of(path, "usage_points") == {
        "id": "gen-0",
        "client_org_id": "acme",
        "usage_date": DAY,
        "time_ns": NOON_NS,
        "model_name": "m",
        "provider": "P",
        "source": "native",
        "user_id": "alice",
        "openrouter_user_id": "alice",
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "raw_cost": 1e-7,
        "markup_cost": 1.3e-7,
        "raw_cost_nano": 100,
        "markup_cost_nano": 130,
        "latency_ms": 7,
        "logged_ms": NOON_MS,
    }


async def test_an_amendment_replaces_the_row_whatever_it_moves(database, path):
    """Another organisation, day, time and model: still one row, and what is unknown now is NULL."""
    after = await apply(database, POINTS, [call(0)])
    new = entry("globex", "2026-11-21", model="n", cost_nano=None, markup_nano=None, created_ns=NOON_NS + 1)
    moved = fact(1, "amended", id="gen-0", minus=call(0).plus, plus=new)
    await apply(database, POINTS, [moved], after)
    row = row_of(path, "usage_points")
    assert (row["client_org_id"], row["usage_date"], row["model_name"]) == ("globex", "2026-11-21", "n")
    assert (row["time_ns"], row["logged_ms"]) == (NOON_NS + 1, NOON_MS + 1000)
    assert [row[name] for name in ("raw_cost_nano", "raw_cost", "markup_cost_nano", "latency_ms")] == [
        None
    ] * 4


async def test_a_void_ends_the_row_and_a_forgotten_id_keeps_it(database, path):
    """In one batch or in several: a void is no call, and what was used was used."""
    void = fact(1, "voided", id="gen-0", minus=call(0).plus, plus=entry(requests=0))
    after = await apply(database, POINTS, [call(0), void, call(2)])
    assert ids(path) == ["gen-2"]
    again = fact(3, "amended", id="gen-0", minus=entry(requests=0), plus=call(0).plus)
    after = await apply(database, POINTS, [again, fact(4, "forgotten", id="gen-2")], after)
    assert ids(path) == ["gen-0", "gen-2"]
    await apply(database, POINTS, [fact(5, "voided", id="gen-0", minus=call(0).plus)], after)
    assert ids(path) == ["gen-2"]


async def test_a_balance_is_no_call(database, path):
    """An opening balance has no generations behind it: its figures are in the summaries only."""
    await apply(database, POINTS, [fact(0, "opening", plus=entry(margin="day", requests=40))])
    assert ids(path) == []


async def test_two_logs_of_the_same_calls_have_the_same_digest(database, path):
    """Log times are the log's, not the calls'."""
    await apply(database, POINTS, [call(0)])
    with closing(sqlite3.connect(path)) as connection:
        before = digest(connection, across_logs=True)["usage_points"]
        connection.execute("UPDATE usage_points SET logged_ms = logged_ms + 1")
        assert digest(connection, across_logs=True)["usage_points"] == before
        assert digest(connection)["usage_points"] != before


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, True),
        ({"points": False}, False),
        ({"influxdb_url": "http://127.0.0.1:8086"}, False),
        ({"influxdb_url": "http://127.0.0.1:8086", "influxdb_first_enabled": False}, True),
    ],
)
def test_sqlite_has_points_only_in_legacy_mode(changes, kept):
    """With InfluxDB first nothing of points goes to SQLite, nor is it rebuilt or proven there."""
    settings = msgspec.structs.replace(Settings(), **changes)
    assert ("points" in [view.name for view in views_of(settings)]) is kept
    assert ("points" in parts_of(settings)) is kept


# --- the route


@pytest_asyncio.fixture
async def service(database, path):
    """A server over twelve calls of acme and one of globex; a test may turn the caller's organisation."""
    found = {"organization": "", "kept": "sqlite"}

    @web.middleware
    async def gateway(request, handler):
        request["organization"] = found["organization"]
        return await handler(request)

    calls = [call(n, hours=n - 6, day="2026-11-19" if n < 3 else DAY, model=f"m-{n % 4}") for n in range(12)]
    calls.append(fact(12, id="gen-later", plus=calls[11].plus))
    calls.append(call(13, "globex", model="=cmd()", cost_nano=None, markup_nano=None))
    await apply(database, POINTS, calls)
    queries = await Queries.open(path)
    for kept in ("sqlite", "influxdb", "nowhere"):
        app = web.Application(middlewares=[gateway])
        app.add_routes(routes(queries, None, None, None, kept))
        client = TestClient(TestServer(app))
        await client.start_server()
        found[kept] = client
    yield found
    for kept in ("sqlite", "influxdb", "nowhere"):
        await found[kept].close()
    await queries.close()


async def get(service, query, **headers):
    answer = await service[service["kept"]].get(f"/api/v1/usage/points?{query}", headers=headers)
    return answer.status, await answer.json()


async def test_a_point_is_told_with_money_and_times_as_text(service):
    """Money is decimal text, times are RFC 3339 to the nanosecond, and the unknown is null."""
    _, body = await get(service, "org=globex")
    (row,) = body["rows"]
    assert body["next"] is None
    assert (row["time"], row["logged_at"]) == ("2026-11-20T12:00:00.000000013Z", "2026-11-20T12:00:13.000Z")
    assert (row["raw_cost"], row["markup_cost"], row["latency_ms"]) == (None, None, 7)
    _, body = await get(service, "org=acme&limit=1")
    assert (body["rows"][0]["raw_cost"], body["rows"][0]["markup_cost"]) == ("0.0000001", "0.00000013")


@pytest.mark.parametrize("limit", [1, 5, 13, 100])
@pytest.mark.parametrize("model", ["", "&model=m-3"])
async def test_pages_have_every_point_once(service, monkeypatch, limit, model):
    """However long a page, also of one model only, also of calls of the same instant."""
    monkeypatch.setattr(raw, "SCANNED_ROWS_MAX", 3)
    found, cursor, pages = [], "", 0
    while cursor is not None:
        _, body = await get(service, f"org=acme&limit={limit}{model}{cursor and f'&cursor={cursor}'}")
        assert len(body["rows"]) <= limit
        found += [row["id"] for row in body["rows"]]
        cursor, pages = body["next"], pages + 1
        assert pages < 20
    every = [f"gen-{n}" for n in range(12)] + ["gen-later"]
    assert found == ([id for id in every if not model or id in ("gen-3", "gen-7", "gen-11", "gen-later")])


@pytest.mark.parametrize(
    ("span", "first", "last"),
    [
        ("from=2026-11-20", 3, 12),
        ("to=2026-11-19", 0, 2),
        ("from=2026-11-20T12:00:00Z", 6, 12),
        ("from=2026-11-20T14:00:00%2B01:00&to=2026-11-20T15:00:00.00001Z", 7, 9),
        ("from=2026-11-20&to=2026-11-20T11:00:00Z", 3, 4),
    ],
)
async def test_days_are_the_organisations_and_instants_are_exact(service, span, first, last):
    """Both edges are within; the two kinds may be mixed."""
    _, body = await get(service, f"org=acme&{span}")
    assert len(body["rows"]) == last - first + 1
    assert body["rows"][0]["id"] == f"gen-{first}"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "org"),
        ("org=", "org"),
        ("org=acme&limit=0", "limit"),
        ("org=acme&limit=10001", "limit"),
        ("org=acme&limit=%C2%B2", "limit"),
        ("org=acme&from=yesterday", "from"),
        ("org=acme&to=2026-02-30T00:00:00Z", "to"),
        ("org=acme&from=2026-11-20&to=2026-11-19", "to"),
        ("org=acme&from=2026-11-20T02:00:00Z&to=2026-11-20T01:00:00Z", "to"),
        ("org=acme&cursor=", "cursor"),
        ("org=acme&cursor=%C3%A9", "cursor"),
        ("org=acme&cursor=WzEsMl0", "cursor"),
        ("org=acme&cursor=WyJhIiw5OTk5OTk5OTk5OTk5OTk5OTk5OSwiYiJd", "cursor"),
    ],
)
async def test_what_can_not_be_meant_is_named(service, query, field):
    """A parameter that is wrong is a 400 that names it."""
    status, body = await get(service, query)
    assert (status, body["error"]["code"], body["error"]["field"]) == (400, "bad_request", field)


async def test_a_caller_of_one_organisation_sees_its_own_only(service):
    """Its own without asking; another's is not there, whatever the cursor says."""
    _, body = await get(service, "org=acme&limit=1")
    service["organization"] = "globex"
    _, own = await get(service, f"cursor={body['next']}")
    assert [row["client_org_id"] for row in own["rows"]] == ["globex"]
    for other in ("acme", "nobody", ""):
        status, body = await get(service, f"org={other}")
        assert (status, body["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("kept", "code"), [("influxdb", "points_in_influxdb"), ("nowhere", "points_not_kept")]
)
async def test_who_asks_where_no_points_are_is_told_where_they_are(service, kept, code):
    """No answer is better than yesterday's: the table has nothing new, so nothing of it is shown."""
    service["kept"] = kept
    status, body = await get(service, "org=acme")
    assert (status, body["error"]["code"]) == (409, code)
    service["organization"] = "globex"
    assert (await get(service, "org=acme"))[0] == 404


async def test_csv_has_no_formulas_and_says_where_the_next_page_begins(service):
    """What a spreadsheet would run is quoted; the unknown is empty; the cursor is a header."""
    answer = await service["sqlite"].get("/api/v1/usage/points?org=globex", headers={"Accept": "text/csv"})
    (row,) = csv.DictReader(io.StringIO(await answer.text()))
    assert (row["model_name"], row["raw_cost"], row["total_tokens"]) == ("'=cmd()", "", "15")
    assert answer.headers["X-Next-Cursor"] == ""
    answer = await service["sqlite"].get(
        "/api/v1/usage/points?org=acme&limit=2", headers={"Accept": "text/csv"}
    )
    _, body = await get(service, "org=acme&limit=2")
    assert answer.headers["X-Next-Cursor"] == body["next"]


@pytest.mark.parametrize("after", [None, (DAY, NOON_NS, "gen-1")])
@pytest.mark.parametrize("model", ["", "m"])
def test_a_page_is_found_by_the_index(path, after, model):
    """No page reads or sorts more than its own part of the table."""
    asked = raw.Asked("acme", DAY, DAY, model=model, after=after)
    until = (DAY, NOON_NS + 1, "gen-2") if model else None
    with closing(sqlite3.connect(path)) as connection:
        for query, values in (raw.points_query(asked, until), raw.edge_query(asked)):
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]
            assert re.search(r"idx_points_client_date \(client_org_id=\? AND \(?usage_date", plan[0]), plan
            # Only calls of the same instant are sorted, by their ids.
            assert all(re.search("(RIGHT PART|LAST TERM) OF ORDER BY", step) for step in plan[1:]), plan
