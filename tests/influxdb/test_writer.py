"""Every line is there in the end, but for exactly those that the server does not take."""

import asyncio
import random
from contextlib import asynccontextmanager

import msgspec
import pytest

from projections.stores.influxdb.line import line_of, void_line_of
from projections.stores.influxdb.server import Denied, Server, Unreachable
from projections.stores.influxdb.target import Target
from projections.stores.influxdb.writer import (
    DENIED_S,
    JITTER,
    PAUSES_S,
    RETRY_AFTER_S_MAX,
    SMALL_LINES,
    Line,
    Writer,
)
from streams.settings import POINTS_MAX
from tests.influxdb.fake import (
    FORBIDDEN,
    INTERNAL,
    NOT_FOUND,
    RESET,
    RESET_AFTER,
    STALL,
    UNAUTHORIZED,
    UNAVAILABLE,
    Fake,
    Fault,
    throttled,
)
from tests.influxdb.samples import POINT as AT_NOON

NOW_NS = 1_795_217_400_123_000_000
POINT = msgspec.structs.replace(AT_NOON, time_ns=NOW_NS)


def point_at(n, **changes):
    return msgspec.structs.replace(POINT, request_id=f"gen-{n}", time_ns=NOW_NS + n * 1_000_000, **changes)


def lines_for(count, bad=()):
    points = [point_at(n, model="bad" if n in bad else "good") for n in range(count)]
    return [Line(line_of(point, "time"), point) for point in points]


def is_bad(point):
    return 'bad value for the field "cost"' if point.tags["model"] == "bad" else ""


class Slept:
    """A sleep that takes no time, and what it was asked for. `then` runs in the middle of it."""

    def __init__(self):
        self.pauses, self.then = [], None

    async def __call__(self, pause_s):
        self.pauses.append(pause_s)
        if self.then is not None:
            self.then()
        await asyncio.sleep(0)


@asynccontextmanager
async def writing(fake, **more):
    values = {"token": "t", "org": "o", "bucket": "points", "write_timeout_s": 20.0, "dedup": "time"} | more
    server = Server(Target(url=fake.url, **values))
    slept = Slept()
    writer = Writer(server, sleep=slept)
    writer.slept = slept
    try:
        yield writer
    finally:
        await server.close()


@pytest.fixture(params=["2", "3"])
def fake(request):
    with Fake(version=request.param) as fake:
        yield fake


def ids(fake):
    return sorted(row["request_id"] for row in fake.rows("llm_usage") if row["requests"])


def ids_of(lines):
    return sorted(line.of.request_id for line in lines)


async def test_lines_are_there_when_it_returns(fake):
    """In one request, when so many fit in one."""
    lines = lines_for(1234)
    async with writing(fake) as writer:
        assert list(await writer.write([])) == []
        assert list(await writer.write(lines)) == []
        assert (writer.written, writer.circuit, writer.trouble()) == (1234, "closed", "")
    assert ids(fake) == ids_of(lines)
    assert len(fake.writes) == 1


async def test_a_write_has_at_most_so_many_points_and_bytes(monkeypatch):
    """What is more goes in further ones; a line that is wider than a body goes alone."""
    monkeypatch.setattr("projections.stores.influxdb.writer.BODY_BYTES_MAX", 20_000)
    with Fake() as fake:
        async with writing(fake) as writer:
            await writer.write([Line(b"n f=1 %d" % n, None) for n in range(POINTS_MAX + 1)])
            texts = [b'm s="%s" %d' % (b"x" * size, size) for size in (9_000, 9_001, 9_002, 30_000, 1)]
            await writer.write([Line(text, None) for text in texts])
        sizes = [one.body.count(b"\n") + 1 for one in fake.writes]
        assert max(sizes[:-4]) <= POINTS_MAX
        assert sizes[-4:] == [2, 1, 1, 1]
        assert (len(fake.rows("n")), len(fake.rows("m"))) == (POINTS_MAX + 1, 5)


@pytest.mark.parametrize("place", [0, 250, 499])
async def test_one_bad_point_among_many_is_found(fake, place):
    """It is refused with the server's own words; the others are there; few requests are made for it."""
    fake.is_bad = is_bad
    lines = lines_for(500, {place})
    async with writing(fake) as writer:
        refused = await writer.write(lines)
    assert [one.line for one in refused] == [lines[place]]
    assert 'bad value for the field "cost"' in refused[0].message
    assert ids(fake) == ids_of(line for line in lines if line is not lines[place])
    assert len(fake.writes) <= 2 * 9 + 2


async def test_a_line_that_is_none_is_found_where_nothing_of_its_body_is_written():
    """2 writes no point of a body in which one can't be read."""
    with Fake() as fake:
        lines = lines_for(300)
        broken = Line(b"llm_usage,model=good requests= 1", None)
        lines.insert(123, broken)
        async with writing(fake) as writer:
            (refused,) = await writer.write(lines)
        assert refused.line is broken
        assert "unable to parse" in refused.message
        assert len(ids(fake)) == 300


@pytest.mark.parametrize("seed", range(6))
async def test_exactly_the_bad_points_are_refused(fake, seed):
    """However many there are, and wherever they stand; each once."""
    pick = random.Random(seed)
    fake.is_bad = is_bad
    count = pick.choice([1, 2, 3, 17, 64, 150])
    bad = {n for n in range(count) if pick.random() < pick.choice([0.02, 0.3, 0.9, 1.0])}
    lines = lines_for(count, bad)
    async with writing(fake) as writer:
        refused = await writer.write(lines)
        assert writer.trouble() == ""
    assert [one.line for one in refused] == [line for n, line in enumerate(lines) if n in bad]
    assert ids(fake) == ids_of(line for n, line in enumerate(lines) if n not in bad)


async def test_a_whole_bad_batch_is_not_halved_down_to_its_points():
    """Where the server says how many it dropped, and that is all of them."""
    with Fake() as fake:
        fake.is_bad = is_bad
        async with writing(fake) as writer:
            assert len(await writer.write(lines_for(300, range(300)))) == 300
        assert len(fake.writes) == 2


async def test_a_name_cant_say_that_all_were_dropped():
    """Only the server's own count counts, whatever a refused point is called."""
    with Fake() as fake:
        user = "partial write: x dropped=9"
        lines = lines_for(8)
        lines[3] = Line(line_of(point_at(3, user=user), "time") + b"x", lines[3].of)
        async with writing(fake) as writer:
            refused = await writer.write(lines)
        assert [one.line for one in refused] == [lines[3]]


async def test_points_are_not_refused_for_the_server(fake):
    """When it does not take a good point either it is out of order: that is waited for, and said."""
    fake.is_bad = lambda point: "field type conflict" if point.measurement == "llm_usage" else ""
    lines = lines_for(20)
    async with writing(fake) as writer:

        def mended():
            assert "takes no point at all" in writer.trouble()
            assert "field type conflict" in writer.trouble()
            assert writer.circuit == "open"
            if len(writer.slept.pauses) == 3:
                fake.is_bad = None

        writer.slept.then = mended
        assert list(await writer.write(lines)) == []
        assert writer.slept.pauses == pytest.approx([DENIED_S] * 3, abs=5)
        assert writer.trouble() == ""
    assert ids(fake) == ids_of(lines)


async def test_points_are_not_refused_for_a_full_server():
    """1.8 takes no more series than it is set to: that is mended there, and no point's fault."""
    full = 'max-values-per-tag limit exceeded (2/2): measurement="llm_usage" tag="model" value="bad"'
    with Fake() as fake:
        fake.is_bad = lambda point: full if point.tags["model"] == "bad" else ""
        lines = lines_for(9, {4})
        async with writing(fake) as writer:

            def mended():
                assert "full" in writer.trouble()
                fake.is_bad = None

            writer.slept.then = mended
            assert list(await writer.write(lines)) == []
        assert ids(fake) == ids_of(lines)


async def test_a_body_that_is_too_large_is_halved(fake):
    """Down to one point; one that is too large alone is refused."""
    fake.body_bytes_max = 3000
    lines = lines_for(50)
    lines[7] = Line(line_of(point_at(7, user="x" * 4000), "time"), lines[7].of)
    async with writing(fake) as writer:
        refused = await writer.write(lines)
    assert [one.line for one in refused] == [lines[7]]
    assert ids(fake) == ids_of(line for line in lines if line is not lines[7])


@pytest.mark.parametrize("fault", [UNAVAILABLE, INTERNAL, RESET, RESET_AFTER, throttled("")])
async def test_what_passes_is_tried_again_until_it_has(fault):
    """After 1, 2, 4 and 8 s, and then every 8 s; three failures in a row open the circuit."""
    with Fake() as fake:
        fake.next(*[fault] * 6)
        lines = lines_for(10)
        circuits = []
        async with writing(fake) as writer:
            writer.slept.then = lambda: circuits.append(writer.circuit)
            assert list(await writer.write(lines)) == []
            assert (writer.circuit, writer.trouble(), writer.errors) == ("closed", "", 6)
            assert writer.last_error
            pauses = writer.slept.pauses
        for pause_s, least_s in zip(pauses, [*PAUSES_S, PAUSES_S[-1], PAUSES_S[-1]], strict=True):
            assert least_s - 0.5 < pause_s <= least_s * (1 + JITTER)
        assert circuits == ["closed", "closed", *["open"] * 4]
        assert ids(fake) == ids_of(lines)


async def test_the_first_write_after_a_pause_is_a_small_one():
    """Half-open: a server that has come back gets few lines, and then all that wait."""
    with Fake() as fake:
        fake.next(*[UNAVAILABLE] * 3)
        lines = lines_for(1000)
        async with writing(fake) as writer:
            await writer.write(lines)
        sizes = [one.body.count(b"\n") + 1 for one in fake.writes]
        assert sizes == [1000, 1000, 1000, SMALL_LINES, 900]
        assert ids(fake) == ids_of(lines)


async def test_half_open_is_what_it_is_called_while_it_tries():
    """Neither open nor closed."""
    with Fake() as fake:
        fake.next(*[UNAVAILABLE] * 3, STALL)
        async with writing(fake) as writer:
            task = asyncio.create_task(writer.write(lines_for(2)))
            while fake._next:
                await asyncio.sleep(0.01)
            assert writer.circuit == "half-open"
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert writer.circuit == "open"
            assert list(await writer.write(lines_for(2))) == []
            assert writer.circuit == "closed"


@pytest.mark.parametrize(
    ("asked", "pause_s"), [("20", 20.0), ("999999", RETRY_AFTER_S_MAX), ("0", PAUSES_S[0])]
)
async def test_retry_after_is_obeyed(asked, pause_s):
    """Never undercut, but for what no server can mean."""
    with Fake() as fake:
        fake.next(throttled(asked))
        async with writing(fake) as writer:
            await writer.write(lines_for(1))
            (slept_s,) = writer.slept.pauses
        assert pause_s - 0.5 < slept_s <= pause_s * (1 + JITTER)


@pytest.mark.parametrize("fault", [UNAUTHORIZED, FORBIDDEN, NOT_FOUND, Fault(302, "x", "elsewhere")])
async def test_who_is_denied_stops_but_for_a_look_now_and_then(fault):
    """And says so, until the settings or the server are mended; then every line is there."""
    with Fake() as fake:
        fake.always = fault
        lines = lines_for(500)
        async with writing(fake) as writer:

            def mended():
                assert (writer.circuit, str(fault.status) in writer.trouble()) == ("open", True)
                if len(writer.slept.pauses) == 2:
                    fake.always = None

            writer.slept.then = mended
            assert list(await writer.write(lines)) == []
            assert all(DENIED_S - 1 < pause_s <= DENIED_S for pause_s in writer.slept.pauses)
        assert ids(fake) == ids_of(lines)


async def test_a_slow_server_gets_less_at_once(monkeypatch):
    """Half after each write that it did not answer in time: one that can't do all in time can do some."""
    monkeypatch.setattr("projections.stores.influxdb.writer.POINTS_MAX", 50)
    with Fake() as fake:
        fake.next(STALL, STALL)
        lines = lines_for(40)
        async with writing(fake, write_timeout_s=1.0) as writer:
            await writer.write(lines)
        sizes = [one.body.count(b"\n") + 1 for one in fake.writes if one.status]
        assert sizes == [12, 13, 15]
        assert ids(fake) == ids_of(lines)


async def test_lines_of_one_point_keep_their_order():
    """Also when their body is taken apart: the last one stands."""
    with Fake() as fake:
        fake.body_bytes_max = 2000
        fake.next(UNAVAILABLE)
        lines = [Line(line_of(point_at(0, total_tokens=n), "time"), POINT) for n in range(100)]
        async with writing(fake) as writer:
            await writer.write(lines)
        (row,) = fake.rows("llm_usage")
        assert row["total_tokens"] == 99


async def test_writes_at_once_fail_as_one_and_try_in_turn():
    """One outage is one failure to the circuit, and a server in trouble is asked by one at a time."""
    with Fake() as fake:
        fake.next(*[UNAVAILABLE] * 6)
        async with writing(fake) as writer:
            states = []
            writer.slept.then = lambda: states.append((writer.circuit, writer._failures))
            done = await asyncio.gather(*(writer.write(lines_for(3)) for _ in range(4)))
            assert [list(one) for one in done] == [[]] * 4
        assert states[0] == ("closed", 1)
        assert [failures for _, failures in states] == [1, 2, 3]
        assert len(ids(fake)) == 3


async def test_who_is_cancelled_leaves_a_writer_that_works():
    """In a pause, or in the midst of a write: the same lines may be written again."""
    with Fake() as fake:
        lines = lines_for(7)
        for faults in ([STALL], [UNAVAILABLE], [UNAVAILABLE] * 3 + [STALL]):
            fake.next(*faults)
            async with writing(fake) as writer:
                task = asyncio.create_task(writer.write(lines))
                while fake._next:
                    await asyncio.sleep(0.01)
                if faults == [UNAVAILABLE]:
                    writer._sleep = asyncio.sleep
                task.cancel()
                assert isinstance(
                    (await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError | list
                )
                assert list(await asyncio.wait_for(writer.write(lines), 10)) == []
        assert ids(fake) == ids_of(lines)


class Deleting(Server):
    """A server that remembers what it was to delete, and may refuse to."""

    def __init__(self, target):
        super().__init__(target)
        self.gone, self.fails = [], None

    async def delete(self, points):
        if self.fails:
            raise self.fails
        self.gone += points
        return points[:1]


@pytest.fixture
async def deleting():
    with Fake() as fake:
        target = Target(url=fake.url, token="", org="", bucket="points", write_timeout_s=20.0, dedup="time")
        server = Deleting(target)
        yield server
        await server.close()


def gone_line(point):
    return Line(void_line_of(point, "time"), point, gone=True)


async def test_what_is_gone_is_removed_after_it_was_written_as_void(deleting):
    """What can't be removed stays as a void, and is counted."""
    writer = Writer(deleting)
    gone = [point_at(n) for n in range(3)]
    await writer.write([*map(gone_line, gone), *lines_for(9)[3:]])
    assert deleting.gone == gone
    assert (writer.left_void, writer.written) == (1, 9)


async def test_a_place_that_another_point_has_taken_is_not_emptied(deleting):
    """Two calls can fall on one nanosecond and the same tags: what is written there last stands."""
    writer = Writer(deleting)
    await writer.write([gone_line(point_at(1)), Line(line_of(point_at(1), "time"), point_at(1))])
    assert deleting.gone == []


@pytest.mark.parametrize("error", [Unreachable("away"), Denied("no right to delete")])
async def test_a_void_that_cant_be_removed_keeps_nobody_waiting(deleting, error):
    """It is right as it is."""
    writer = Writer(deleting)
    deleting.fails = error
    assert list(await writer.write([gone_line(POINT)])) == []
    assert (writer.left_void, writer.circuit, writer.last_error) == (1, "closed", str(error))


async def test_a_real_server_takes_all_but_the_bad_points(influxdb, bucket):
    """One type in conflict, one integer beyond 64 bits, one without fields: these, and no other."""
    server = Server(
        Target(
            url=influxdb.url,
            token=influxdb.token,
            org=influxdb.org,
            bucket=bucket,
            write_timeout_s=20.0,
            dedup="time",
        )
    )
    writer = Writer(server)
    lines = lines_for(5000)
    await writer.write(lines[:1])
    bad = {
        40: lines[40].text.replace(b"requests=1i", b"requests=1.0"),
        500: lines[500].text.replace(b"offset=17i", b"offset=9223372036854775808i"),
        4999: b"llm_usage,organization=acme  1",
    }
    for n, text in bad.items():
        lines[n] = Line(text, lines[n].of)
    refused = await writer.write(lines)
    await server.close()
    assert [one.line for one in refused] == [lines[n] for n in bad]
    said = [one.message for one in refused]
    assert "requests" in said[0]
    assert "unable to parse" in said[1]
    assert "unable to parse" in said[2]
    # The good point that it tried is a void.
    rows = influxdb.rows(bucket, "llm_usage")
    assert sorted(row["request_id"] for row in rows if row.get("requests") == 1) == ids_of(
        line for n, line in enumerate(lines) if n not in bad
    )
    assert sum(row.get("requests") == 0 for row in rows) == 1


async def test_points_beyond_a_real_servers_retention_are_refused_alone(influxdb, bucket):
    """1.8 says how many it dropped, 2 refuses them as well; the rest is there."""
    server = Server(
        Target(
            url=influxdb.url,
            token=influxdb.token,
            org=influxdb.org,
            bucket=bucket,
            write_timeout_s=20.0,
            dedup="time",
        )
    )
    await server.open()
    if server.version != "1":
        await server.close()
        return
    await server.query_influxql(f'ALTER RETENTION POLICY "autogen" ON "{bucket}" DURATION 52w')
    old = [Line(line_of(point_at(n, offset=n), "time"), point_at(n)) for n in range(30)]
    ancient_ns = 1_500_000_000_000_000_000
    for n in (3, 17):
        point = msgspec.structs.replace(point_at(n), time_ns=ancient_ns + n)
        old[n] = Line(line_of(point, "time"), point)
    refused = await Writer(server).write(old)
    await server.close()
    assert [one.line for one in refused] == [old[3], old[17]]
    assert "retention" in refused[0].message
    assert influxdb.count(bucket) == 29
