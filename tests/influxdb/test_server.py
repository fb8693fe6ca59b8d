"""What a server's answers mean, and that a deletion removes its point and no other."""

import asyncio
import logging

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from projections.points import stamp_ns
from projections.stores.influxdb.line import line_of, tags_of
from projections.stores.influxdb.reader import reader_of
from projections.stores.influxdb.server import (
    BadPoints,
    BadQuestion,
    Denied,
    Health,
    InfluxError,
    Server,
    Throttled,
    TooLarge,
    Unreachable,
    delete_predicate,
    delete_statement,
)
from projections.stores.influxdb.target import Target
from streams.errors import SettingError
from tests.influxdb.fake import STALL, Fake
from tests.influxdb.real import LOGIN
from tests.influxdb.samples import NOW_NS, POINT

TOKEN = "points:very-secret"
PARTIAL_3 = (
    '{"error":"partial write of line protocol occurred","data":[{"original_line":"m f=","line_number":2,'
    '"error_message":"No fields were provided"}]}'
)


def server_at(url, **more):
    values = {"token": TOKEN, "org": "o", "bucket": "points", "write_timeout_s": 20.0, "dedup": "time"}
    return Server(Target(**({"url": str(url).rstrip("/")} | values | more)))


class Answering:
    """One answer to everything, and what was asked."""

    def __init__(self, status=204, text="", **headers):
        self.status, self.text, self.headers, self.asked = status, text, headers, []

    async def answer(self, request):
        self.asked.append(request)
        headers = {name.replace("_", "-"): text for name, text in self.headers.items()}
        return web.Response(status=self.status, text=self.text, headers=headers)


@pytest.fixture
async def serve():
    started = []

    async def start(answering, **more):
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", answering.answer)
        running = TestServer(app)
        await running.start_server()
        server = server_at(running.make_url("/"), **more)
        started.append((running, server))
        return server

    yield start
    for running, server in started:
        await server.close()
        await running.close()


async def failure(server, body=b"m f=1 1"):
    with pytest.raises(InfluxError) as raised:
        await server.write(body)
    return raised.value


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadPoints),
        (401, Denied),
        (402, Denied),
        (403, Denied),
        (404, Denied),
        (405, Denied),
        (408, Unreachable),
        (413, TooLarge),
        (422, BadPoints),
        (429, Throttled),
        (500, Unreachable),
        (502, Unreachable),
        (503, Throttled),
        (504, Unreachable),
        (599, Unreachable),
    ],
)
async def test_a_status_is_the_error_that_says_what_to_do(serve, status, kind):
    """Wait, halve, look for the bad point, or have the settings mended."""
    server = await serve(Answering(status, '{"code":"x","message":"its words"}'))
    error = await failure(server)
    assert type(error) is kind
    assert "its words" in str(error)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"error":"field type conflict"}', "field type conflict"),  # 1.8
        ('{"code":"invalid","message":"unable to parse"}', "unable to parse"),  # 2
        (PARTIAL_3, "partial write of line protocol occurred: No fields were provided"),
        ('{"error":"parsing failed","data":{"error_message":"no"}}', "parsing failed: no"),
        ("<html>proxy</html>", "<html>proxy</html>"),
        ("[1,\n2]", "[1, 2]"),
        ("", ""),
    ],
)
async def test_the_message_is_the_servers_own(serve, body, message):
    """Whichever version's, or whoever's stands before it."""
    assert (await failure(await serve(Answering(400, body)))).message == message


async def test_a_message_is_bounded_on_one_line_and_without_the_token(serve):
    """A server that shows the token or a long page puts neither into our logs."""
    said = f"a\nb\x1b[0m Token {TOKEN}, password very-secret " + "x" * 5_000_000
    error = await failure(await serve(Answering(401, said)))
    assert "very-secret" not in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 1300


@pytest.mark.parametrize(
    ("text", "seconds"), [("7", 7.0), ("", 0.0), ("soon", 0.0), ("Thu, 01 Jan 1970 00:01:00 GMT", 0.0)]
)
async def test_retry_after_is_seconds_or_a_date(serve, text, seconds):
    """What can't be read, or has passed, asks for nothing."""
    assert (await failure(await serve(Answering(429, "", Retry_After=text)))).retry_after_s == seconds


async def test_a_short_token_does_not_eat_the_message(serve):
    """It is left out where it stands alone, and words stay words."""
    server = await serve(Answering(401, "t is not the token"), token="t")
    assert "*** is not the token" in str(await failure(server))


async def test_a_redirect_is_not_followed(serve):
    """The token goes to the server that the settings name, and to no other."""
    elsewhere = Answering(204)
    other = await serve(elsewhere)
    server = await serve(Answering(307, "", Location=other.address + "/api/v2/write"))
    assert type(await failure(server)) is Denied
    assert not elsewhere.asked


async def test_a_write_that_is_not_answered_in_time_is_given_up():
    """INFLUXDB_WRITE_TIMEOUT is how long it may take; what became of it nobody knows."""
    with Fake() as fake:
        fake.next(STALL)
        server = server_at(fake.url, write_timeout_s=0.1)
        error = await failure(server)
        await server.close()
    assert (type(error), error.slow) == (Unreachable, True)


async def test_a_server_that_is_not_there_is_unreachable(unused_tcp_port):
    """Its address is said, and what failed."""
    server = server_at(f"http://127.0.0.1:{unused_tcp_port}")
    error = await failure(server)
    with pytest.raises(Unreachable):
        await server.open()
    await server.close()
    assert (type(error), error.slow) == (Unreachable, False)
    assert f"http://127.0.0.1:{unused_tcp_port}" in str(error)


async def test_the_token_is_nowhere_to_be_seen(serve, caplog):
    """Not in what is printed of a server, nor in a log at its most talkative; but the server is shown it."""
    caplog.set_level(logging.DEBUG)
    answering = Answering(500, "no")
    server = await serve(answering)
    error = await failure(server)
    shown = f"{server!r} {server.target!r} {error!r} {error.__cause__!r} {vars(error)!r} {caplog.text}"
    assert "very-secret" not in shown
    assert answering.asked[0].headers["Authorization"] == f"Token {TOKEN}"


async def test_a_write_names_its_bucket_and_nanoseconds(serve):
    """The body is sent as it is; an organisation only where there is one."""
    answering = Answering()
    await (await serve(answering)).write(b"m f=1 1")
    await (await serve(answering, org="", token="", bucket="db/rp")).write(b"m f=1 1")
    first, second = answering.asked
    assert (first.path, dict(first.query)) == (
        "/api/v2/write",
        {"org": "o", "bucket": "points", "precision": "ns"},
    )
    assert dict(second.query) == {"bucket": "db/rp", "precision": "ns"}
    assert "Authorization" not in second.headers


@pytest.mark.parametrize(("version", "word"), [("1", "Token"), ("2", "Token"), ("3", "Bearer")])
async def test_the_token_is_shown_as_each_version_wants_it(serve, version, word):
    """3 calls it otherwise than 1.8 and 2."""
    answering = Answering()
    await (await serve(answering, version=version)).write(b"m f=1 1")
    assert answering.asked[0].headers.getall("Authorization") == [f"{word} {TOKEN}"]


@pytest.mark.parametrize("change", [{"url": "http://a:b@127.0.0.1:1"}, {"token": "a\nb"}])
def test_settings_that_no_server_can_have_are_said_to_be_wrong(change):
    """A password in the address, or a token that no header holds."""
    with pytest.raises(SettingError) as raised:
        server_at(**({"url": "http://127.0.0.1:1"} | change))
    assert "a:b@" not in str(raised.value)


# Recorded of the servers, or out of their sources: services/httpd/handler.go of 1.8, http/platform_handler.go
# of 2, influxdb3_server/src/http.rs of 3.
@pytest.mark.parametrize(
    ("status", "text", "headers", "version"),
    [
        (204, "", {"X_Influxdb_Version": "1.8.10", "X_Influxdb_Build": "OSS"}, "1"),
        (204, "", {"X_Influxdb_Version": "v2.7.12", "X_Influxdb_Build": "OSS"}, "2"),
        (204, "", {"X_Influxdb_Version": "2.0.9"}, "2"),
        (204, "", {"X_Influxdb_Build": "Cloud"}, "2"),
        (200, '{"version":"3.4.1","revision":"0"}', {"X_Influxdb_Build": "Core"}, "3"),
        (200, "OK", {"X_Influxdb_Version": "3.0.0"}, "3"),
    ],
)
async def test_which_version_it_is(serve, status, text, headers, version):
    """As its ping says."""
    server = await serve(Answering(status, text, **headers))
    await server.open()
    assert server.version == version


async def test_a_server_that_is_no_influxdb_is_said_to_be_none(serve):
    """Rather than sent points."""
    with pytest.raises(Denied, match="INFLUXDB_URL"):
        await (await serve(Answering(204))).open()


async def test_a_version_that_is_set_is_not_asked_for(serve):
    """GENLEDGER_INFLUXDB_VERSION is for a server that does not say."""
    answering = Answering(500)
    server = await serve(answering, version="2")
    await server.open()
    assert (server.version, answering.asked) == ("2", [])


async def test_health_is_whether_it_would_take_points():
    """A wrong token or bucket is bad health, before there is a point to write."""
    with Fake(token=TOKEN) as fake:
        server = server_at(fake.url)
        good = await server.health()
        other = server_at(fake.url, token="another")
        bad = await other.health()
        await server.close()
        await other.close()
        assert not fake.points
    assert msgspec.structs.replace(good, milliseconds=0.0) == Health(True, "v2.7.12", "it takes points", 0.0)
    assert (bad.ok, bad.version) == (False, "v2.7.12")
    assert "401" in bad.message


def test_a_deletion_names_all_that_a_point_is_known_by():
    """One nanosecond, and every tag, also one that is not there; nothing in a name ends its own text."""
    hard = msgspec.structs.replace(POINT, organization="' OR 1=1 --", model='") |> yield()', provider="")
    at = stamp_ns(NOW_NS, "gen-1")
    target = server_at("http://127.0.0.1:1").target
    assert delete_statement(target, hard) == (
        f'DELETE FROM "llm_usage" WHERE time = {at} AND "organization" = \'\\\' OR 1=1 --\''
        ' AND "model" = \'") |> yield()\' AND "provider" = \'\' AND "source" = \'webhook\''
    )
    tag = msgspec.structs.replace(target, dedup="tag")
    assert delete_statement(tag, hard).endswith("AND \"request_id\" = 'gen-1'")
    predicate = delete_predicate(hard, tags_of(hard, "tag"))
    assert predicate["start"] == predicate["stop"] == f"2026-11-20T23:30:00.{at % 10**9:09d}Z"
    assert predicate["predicate"] == (
        '_measurement="llm_usage" AND organization="\' OR 1=1 --" AND model="\\") |> yield()"'
        ' AND provider="" AND source="webhook" AND request_id="gen-1"'
    )


def near(point, hard):
    """Points that differ from one in as little as may be: a tag, a nanosecond, or the id."""
    replace = msgspec.structs.replace
    yield from (replace(point, **{name: hard}) for name in ("organization", "model", "provider", "source"))
    yield from (replace(point, **{name: ""}) for name in ("model", "provider", "source"))
    yield replace(point, time_ns=point.time_ns + 1_000_000)
    yield replace(point, request_id="gen-2")


@pytest.mark.parametrize("dedup", ["time", "tag"])
async def test_a_real_server_removes_the_point_and_no_other(influxdb, bucket, dedup):
    """Also where its tags are hostile, or it has none of them."""
    hards = ["' OR 1=1", '") |> yield()', "a\\", "'; DROP MEASUREMENT llm_usage; --", "/.*/", "é\u2028 ,="]
    found = []
    server = server_at(influxdb.url, token=influxdb.token, org=influxdb.org, bucket=bucket, dedup=dedup)
    await server.open()
    for n, hard in enumerate(hards):
        at_ns = NOW_NS + n * 3_600_000_000_000
        base = msgspec.structs.replace(POINT, time_ns=at_ns)
        made = [base, *near(base, hard)]
        await server.write(b"\n".join(line_of(point, dedup) for point in made))
        for gone in (base, made[1], made[5]):
            made.remove(gone)
            left = await server.delete([gone])
            found = [p async for p in reader_of(server).points(at_ns, at_ns + 3_600_000_000_000)]
            if left:  # INFLUXDB_URL is a 2, whose predicate knows no tag that isn't there
                made.append(gone)
            assert sorted(found, key=str) == sorted(made, key=str)
    await server.close()
    assert found


async def test_many_points_are_removed_in_few_requests(influxdb, bucket):
    """And a statement that fails is an error, not silence."""
    server = server_at(influxdb.url, token=influxdb.token, org=influxdb.org, bucket=bucket)
    await server.open()
    made = [
        msgspec.structs.replace(POINT, request_id=f"gen-{n}", time_ns=NOW_NS + n * 10**9) for n in range(250)
    ]
    await server.write(b"\n".join(line_of(point, "time") for point in made))
    assert list(await server.delete(made[:-1])) == []
    assert influxdb.count(bucket) == 1
    if server.version == "1":
        with pytest.raises(BadQuestion, match="parsing"):
            await server.query_influxql("DELETE FROM")
    await server.close()


async def test_two_removes_by_predicate_and_leaves_what_it_cant_name():
    """A point that lacks a tag stays as a void: the predicate can't ask for that."""
    with Fake() as fake:
        server = server_at(fake.url)
        lacking = msgspec.structs.replace(POINT, provider="")
        await server.write(line_of(POINT, "time") + b"\n" + line_of(lacking, "time"))
        assert await server.delete([POINT, lacking]) == [lacking]
        await server.close()
        assert [row.get("provider") for row in fake.rows("llm_usage")] == [None]
        assert len(fake.deleted) == 1


async def test_three_removes_nothing():
    """It has no deletion: voids stay."""
    with Fake(version="3") as fake:
        server = server_at(fake.url)
        await server.write(line_of(POINT, "time"))
        assert list(await server.delete([POINT])) == [POINT]
        await server.close()
        assert len(fake.rows("llm_usage")) == 1


async def test_a_login_of_1_8_is_its_token(own_influxdb):
    """For writes, deletions and questions alike; a wrong one is refused."""
    influxd = own_influxdb(login=LOGIN)
    influxd.influx.influxql("CREATE DATABASE points")
    server, other = server_at(influxd.url, token=LOGIN), server_at(influxd.url, token="points:wrong")
    await server.open()
    await server.write(line_of(POINT, "time"))
    assert [p async for p in reader_of(server).points(NOW_NS, NOW_NS + 10**9)] == [POINT]
    assert list(await server.delete([POINT])) == []
    assert (await server.health()).ok
    assert type(await failure(other)) is Denied
    assert not (await other.health()).ok
    await server.close()
    await other.close()


async def test_an_answer_may_break_off(serve):
    """What Flux says in the midst of its rows, and a line without end, are errors."""
    midway = (
        "#datatype,string,long,long\r\n,result,table,n\r\n,_result,0,1\r\n\r\n#datatype,string,string\r\n,error,"
        'reference\r\n,"it broke",897\r\n'
    )
    server = await serve(Answering(200, midway))
    found = server.query_flux("from")
    assert await anext(found) == {"n": 1}
    with pytest.raises(BadQuestion, match="it broke"):
        await anext(found)
    endless = await serve(Answering(200, "x" * 1_000_000))
    with pytest.raises(BadQuestion, match="too long"):
        async for _ in endless.query_sql("SELECT"):
            pass


async def test_cells_are_read_by_their_types(serve):
    """Numbers, truths and texts; a text may have line feeds, commas and marks in it; a time is its text."""
    text = (
        "#datatype,string,long,long,double,boolean,string,dateTime:RFC3339\r\n"
        ',result,table,n,x,b,s,_time\r\n,_result,0,9007199254740993,0.5,true,"a ""b"",\n\u2028c",'
        "2026-01-01T00:00:00Z\r\n"
        ",_result,0,,,false,,2026-01-01T00:00:00.000000001Z\r\n\r\n"
    )
    server = await serve(Answering(200, text))
    first, second = [row async for row in server.query_flux("from")]
    assert first == {
        "n": 9007199254740993,
        "x": 0.5,
        "b": True,
        "s": 'a "b",\n\u2028c',
        "_time": "2026-01-01T00:00:00Z",
    }
    assert (second["n"], second["x"], second["b"], second["s"]) == (None, None, False, "")


async def test_who_is_cancelled_leaves_the_server_usable():
    """A write given up in the midst of its answer holds no connection and no state."""
    with Fake() as fake:
        fake.next(STALL)
        server = server_at(fake.url)
        task = asyncio.create_task(server.write(b"m f=1 1"))
        while fake._next:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.write(b"m f=2 2")
        await server.close()
        assert [row["f"] for row in fake.rows("m")] == [2.0]
