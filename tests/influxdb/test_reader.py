"""Points read back: by Flux from a real server, by SQL from recorded answers; names end no literal."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec.structs import replace

from projections.points import Opening, Point
from projections.stores.influxdb import flux, sql
from projections.stores.influxdb.line import line_of, opening_line_of, void_line_of
from projections.stores.influxdb.reader import reader_of, span_of, stored_of
from projections.stores.influxdb.server import Server
from projections.stores.influxdb.target import Target
from streams import times
from tests.influxdb.real import Influx

NAMES = ('") |> yield()', "${env.HOME}", "it's", 'a "b" \\', "x' OR '1'='1", "zażółć", "a,b =c", "${r.model}")
DAY = "2026-11-20"
TIME_NS = times.nanoseconds_of("2026-11-20T23:30:00.250Z")


def point(id: str, organization: str, **fields: object) -> Point:
    """One call."""
    figures = (1, 2, 3, 4_000_000_001, 5_000_000_001, None)
    found = Point(id, TIME_NS, organization, "m", "", "sdk", "u", "", DAY, *figures, 7, 8)
    return replace(found, **fields)


@asynccontextmanager
async def opened(url: str, bucket: str, version: str = "auto", **more: str) -> AsyncIterator[Server]:
    """A server that is closed afterwards."""
    named = {"token": "", "org": "", **more}
    target = Target(url=url, bucket=bucket, write_timeout_s=5.0, dedup="time", version=version, **named)  # type: ignore[arg-type]
    server = Server(target)
    try:
        await server.open()
        yield server
    finally:
        await server.close()


async def test_a_name_asked_for_by_flux_is_that_name_and_nothing_else(influxdb: Influx, bucket: str) -> None:
    """Input row 37: whatever an organisation is called, its own points come, and no others."""
    wanted = [point(f"gen-{n}", name, latency_ms=n or None) for n, name in enumerate(NAMES)]
    influxdb.write(bucket, b"\n".join(line_of(one, "time") for one in wanted))
    async with opened(influxdb.url, bucket, token=influxdb.token, org=influxdb.org) as server:
        reader = reader_of(server)
        for one in wanted:
            found = [other async for other in reader.points(*span_of(DAY, DAY), one.organization)]
            assert found == [one]
        everything = [other async for other in reader.points(*span_of(DAY, DAY))]
        assert sorted(everything, key=lambda one: one.request_id) == wanted
        assert [one async for one in reader.points(TIME_NS + 1_000_000, TIME_NS + 10**9)] == []


async def test_voids_and_what_others_wrote_are_told_apart(influxdb: Influx, bucket: str) -> None:
    """A void is no point; a row without our fields, or whose fields contradict each other, is not whole."""
    gone, there, bent = (point(id, "acme") for id in ("gone", "there", "bent"))
    lines = [void_line_of(gone, "time"), line_of(there, "time")]
    lines.append(line_of(bent, "time").replace(b"cost=4000000001e-9", b"cost=4.5"))
    lines.append(b'llm_usage,organization=acme request_id="foreign",requests=1i %d' % TIME_NS)
    influxdb.write(bucket, b"\n".join(lines))
    async with opened(influxdb.url, bucket, token=influxdb.token, org=influxdb.org) as server:
        reader = reader_of(server)
        found = [one async for one in reader.stored(*span_of(DAY, DAY), "acme")]
        by_id = {one.point.request_id: (one.void, one.whole) for one in found}
        assert by_id == {
            "gone": (True, True),
            "there": (False, True),
            "bent": (False, False),
            "foreign": (False, False),
        }
        assert all(one.stamp_ns // 10**6 == TIME_NS // 10**6 for one in found)
        assert [one async for one in reader.points(*span_of(DAY, DAY))] == [there]
        influxdb.write(bucket, b"llm_opening,organization=acme,margin=day requests=1i %d" % TIME_NS)
        assert [one async for one in reader.openings(*span_of(DAY, DAY))] == []


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            {"offset": "x"},
            {"created_ns": 1e300},
            {"prompt_tokens": 1.5},
            {"user": 5},
            {"cost": float("nan")},
        ),
        *({"request_id": 5}, {"requests": 2}, {"day": None}, {"logged_ms": float("inf")}, {"cost": "x"}),
    ],
)
def test_fields_of_other_types_are_not_whole(wrong: dict[str, object]) -> None:
    """Whatever somebody wrote into our measurement is told as that, and ends nothing."""
    row = {"_time": TIME_NS, "organization": "acme", "model": "m", "request_id": "gen-1", "day": DAY}
    row |= dict.fromkeys(
        ("prompt_tokens", "completion_tokens", "total_tokens", "cost_nano", "markup_nano"), 1
    )
    row |= dict.fromkeys(("created_ns", "offset", "logged_ms", "requests", "untimed"), 1)
    row |= {"unpriced": 0, "cost": 1e-9}
    assert stored_of(row).whole
    found = stored_of(row | wrong)
    assert (found.whole, found.stamp_ns, found.point.prompt_tokens) == (False, TIME_NS, 0)


@pytest.mark.parametrize("text", NAMES)
def test_a_literal_says_the_text_and_ends_where_it_does(text: str) -> None:
    """No mark of either language is left bare inside a literal."""
    inside = flux.literal(text)[1:-1]
    assert '"' not in inside and "$" not in inside and " " not in inside
    assert bytes(inside, "ascii").decode("unicode_escape").encode("latin-1").decode() == text
    assert sql.literal(text)[1:-1].replace("''", "") == text.replace("'", "")


def test_a_span_holds_the_day_in_every_zone() -> None:
    """From the day's beginning on Kiritimati to its end on the line of UTC-12."""
    first_ns, last_ns = span_of(DAY, DAY)
    for zone in ("Pacific/Kiritimati", "Etc/GMT+12", "UTC", "Asia/Kathmandu"):
        begin_ns = times.midnight_ns(DAY, zone)
        end_ns = times.midnight_ns("2026-11-21", zone)
        assert first_ns <= begin_ns and end_ns <= last_ns


# SQL, for 3: no such server can be run here. The answers are as its documentation of /api/v3/query_sql has
# them with format=jsonl: one object a line, times without a zone, what is null left out.

_ROW = {
    "cost": 4.000000001,
    "cost_nano": 4000000001,
    "completion_tokens": 2,
    "created_ns": TIME_NS,
    "day": DAY,
    "latency_ms": 9,
    "logged_ms": 8,
    "markup_nano": 5000000001,
    "model": "m",
    "offset": 7,
    "organization": "it's",
    "prompt_tokens": 1,
    "request_id": "gen-1",
    "requests": 1,
    "source": "sdk",
    "time": "2026-11-20T23:30:00.250123456",
    "total_tokens": 3,
    "unpriced": 0,
    "untimed": 0,
    "user": "u",
    "user_id": "",
}
_VOID = {**_ROW, "request_id": "gen-2", "requests": 0, "cost": 0.0, "cost_nano": 0, "markup_nano": 0}
_BALANCE = Opening("it's", DAY, "model", "m0", "", "Old", 7, 0, 0, 70, 5, 6, 1, 3, 4)


async def test_points_are_read_by_sql(tmp_path: object) -> None:
    """The question as it goes out, and the rows as they come back, line by line."""
    asked: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(await request.json())
        if "llm_opening" in asked[-1]["q"]:
            text = "Error while planning query: table 'public.iox.llm_opening' not found"
            return web.Response(status=400, text=text)
        return web.Response(text="".join(json.dumps(row) + "\n" for row in (_ROW, _VOID)))

    app = web.Application()
    app.router.add_post("/api/v3/query_sql", answer)
    async with TestServer(app) as fake, opened(str(fake.make_url("")), "b", "3") as server:
        reader = reader_of(server)
        found = [one async for one in reader.points(*span_of(DAY, DAY), "it's")]
        assert found == [point("gen-1", "it's", latency_ms=9)]
        both = [one async for one in reader.stored(*span_of(DAY, DAY))]
        assert [(one.void, one.stamp_ns % 10**6) for one in both] == [(False, 123456), (True, 123456)]
        assert [one async for one in reader.openings(*span_of(DAY, DAY))] == []
    assert asked[0] == {
        "db": "b",
        "q": "SELECT * FROM \"llm_usage\" WHERE time >= '2026-11-19T10:00:00Z'"
        " AND time < '2026-11-21T12:00:00Z' AND \"organization\" = 'it''s'",
        "format": "jsonl",
    }


async def test_balances_are_read_back(influxdb: Influx, bucket: str) -> None:
    """Every field of an opening balance, by the UTC day of its day."""
    influxdb.write(bucket, opening_line_of(_BALANCE))
    async with opened(influxdb.url, bucket, token=influxdb.token, org=influxdb.org) as server:
        first_ns = times.nanoseconds_of(f"{DAY}T00:00:00Z")
        found = [one async for one in reader_of(server).openings(first_ns, first_ns + times.DAY_NS)]
        assert found == [_BALANCE]


def test_a_row_of_either_language_is_the_same_point() -> None:
    """Flux says `_time` and nothing for an absent tag, SQL `time` and leaves it out."""
    by_flux = {**_ROW, "_time": "2026-11-20T23:30:00.250123456Z", "provider": None}
    del by_flux["time"]
    assert stored_of(by_flux) == stored_of(_ROW)
