"""How far the points have come is read back as it was written, by whichever server keeps it."""

import pytest

from projections.stores.influxdb.positions import Kept, position_line, read_positions
from projections.stores.influxdb.server import Server, Unreachable
from projections.stores.influxdb.target import Target
from projections.view import START, Position
from streams.times import HOUR_NS, MS_NS
from tests.influxdb.fake import INTERNAL, Fake, Fault, _error, parse

NOW_MS = 1_795_217_400_123
KEPT = Kept(Position(17, 15, "0123456789abcdef", 16), Position(7, 5, "fedcba9876543210", 6), 'log "1"\\')


def server_at(url, **more):
    values = {"token": "", "org": "", "bucket": "points", "write_timeout_s": 20.0, "dedup": "time"}
    return Server(Target(**({"url": url} | values | more)))


@pytest.fixture
async def server(influxdb, bucket):
    server = server_at(influxdb.url, token=influxdb.token, org=influxdb.org, bucket=bucket)
    yield server
    await server.close()


def test_a_position_is_one_point_an_hour():
    """So a bucket of years holds few of them, and retention never takes the newest before the points."""
    lines = [
        parse(position_line(3, "", KEPT, now_ms)) for now_ms in (NOW_MS, NOW_MS + 1000, NOW_MS + 3_600_000)
    ]
    assert lines[0].key == lines[1].key
    assert lines[2].time_ns - lines[0].time_ns == HOUR_NS
    assert 0 <= NOW_MS * MS_NS - lines[0].time_ns < HOUR_NS
    assert lines[0].tags == {"projection": "points", "partition": "3"}


async def test_nothing_was_ever_kept(server):
    """A new bucket has no position: the points begin at the log's beginning."""
    assert await read_positions(server, "") == {}


async def test_the_newest_of_each_partition_is_read(server):
    """Whatever was written before, in this hour or in another."""
    newest = {n: Kept(Position(100 + n, 99, "aa", 100), START, "log") for n in range(3)}
    lines = [
        position_line(n, "", KEPT, NOW_MS - 3_600_000 * hours) for n in range(3) for hours in range(1, 4)
    ]
    lines += [position_line(n, "", KEPT, NOW_MS) for n in range(3)]
    await server.write(b"\n".join(lines))
    await server.write(b"\n".join(position_line(n, "", kept, NOW_MS) for n, kept in newest.items()))
    assert await read_positions(server, "") == newest


async def test_installations_share_a_bucket(server):
    """Each reads its own, whatever its prefix is called."""
    prefixes = ["", "test.", "a b,c=d", "back\\", '") |> yield()']
    for n, prefix in enumerate(prefixes):
        await server.write(position_line(n, prefix, KEPT, NOW_MS))
    for n, prefix in enumerate(prefixes):
        assert await read_positions(server, prefix) == {n: KEPT}
    assert await read_positions(server, "another") == {}


@pytest.mark.parametrize("version", ["2", "3"])
async def test_other_versions_give_back_what_they_were_given(version):
    """2 by Flux, 3 by SQL."""
    with Fake(version=version) as fake:
        server = server_at(fake.url)
        older = Kept(Position(1, 1, "bb", 1), START, "log")
        await server.write(position_line(0, "p.", older, NOW_MS - 7_200_000))
        await server.write(position_line(0, "p.", KEPT, NOW_MS))
        await server.write(position_line(1, "", older, NOW_MS))
        assert await read_positions(server, "p.") == {0: KEPT}
        await server.close()


@pytest.mark.parametrize(
    "fault",
    [
        Fault(404, "not found", "database not found: points"),
        Fault(400, "invalid", "Error during planning: table 'public.iox.genledger_positions' not found"),
        Fault(500, "internal error", "table 'public.iox.genledger_positions' not found"),
    ],
)
async def test_a_database_of_3_that_was_never_written_has_no_position(fault):
    """Its first write makes it; until then every question about it is an error."""
    with Fake(version="3") as fake:
        fake._sql = lambda request, body: _error(fault)
        server = server_at(fake.url)
        assert await read_positions(server, "") == {}
        fake._sql = lambda request, body: _error(INTERNAL)
        with pytest.raises(Unreachable):
            await read_positions(server, "")
        await server.close()


async def test_a_server_that_is_away_has_no_position_to_begin_at(unused_tcp_port):
    """It is an error: to begin anew would be another answer."""
    server = server_at(f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(Unreachable):
        await read_positions(server, "")
    await server.close()
