"""Points into a real InfluxDB 1.8: our worker beside a loop by hand, and what an InfluxDB that is away costs.

    points(bench)        # {"ours_per_s": ..., "hand_per_s": ..., "write_100_p50_ms": ..., ...}
    healthy(bench)       # latency at 200 requests a second, with InfluxDB there
    away(bench)          # the same with nobody listening where it should be

Worker and loop read the same `usage`, which our ledger made, into buckets of their own: both must add up to
what was sent. The worker is timed between its first and its last records, for a worker joins a group before
it begins; so is the loop. INFLUXDB_URL is not used: a bucket of somebody's is no place for this.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import sleep

from benchmarks import BenchmarkFailed, hand, ours
from benchmarks.alone import alone
from benchmarks.bench import Bench, Figures
from benchmarks.latency import Way, latency, percentile
from benchmarks.service import HOST
from benchmarks.traffic import Totals
from benchmarks.wire import Pool
from projections.points import Point
from projections.stores.influxdb.line import line_of
from projections.stores.influxdb.server import Server
from projections.stores.influxdb.target import Target
from projections.stores.influxdb.writer import Line, Writer
from streams import clock, topics
from tests.influxdb.real import Influx, Influxd, InfluxdbFailed, NoInfluxdb
from tests.kafka.installation import Role
from tests.servers import free_port

RATE = 200
WRITES = 400
WRITE_LINES = 100
WARM_UP = 20
LOOK_S = 0.1
SETTLE_S = 5.0
TIMEOUT_S = 180.0
# As it is by default, not as tests want it.
_ENVIRON = {"GOGC": "100", "GOMEMLIMIT": "off", "INFLUXDB_DATA_CACHE_MAX_MEMORY_SIZE": "1g"}
Post = Callable[[bytes], Awaitable[None]]

_APPLIED = "genledger_applied_offset{"


@contextmanager
def running(base: Path) -> Iterator[Influxd]:
    """A server of the case's own."""
    server = Influxd(base / "influxdb", **_ENVIRON)
    try:
        yield server.start()
    except (InfluxdbFailed, NoInfluxdb) as error:
        raise BenchmarkFailed(str(error)) from None
    finally:
        server.kill()


def points(bench: Bench) -> Figures:
    """Records of `usage` a second, ours and by hand; and one write of a hundred points."""
    with running(bench.base) as server, ours.decided(bench) as road:
        influx = server.influx
        by_hand, by_us = influx.make_bucket("hand"), influx.make_bucket("ours")
        usage = f"{bench.prefix}{topics.USAGE}"
        loop = partial(alone, hand.points_loop, bench.bootstrap, usage, server.port, by_hand, road.records)
        # Who comes second finds a fuller server: not always the same.
        took = loop() if bench.seed // 10 % 2 else None
        ours_per_s = _worker(road, influx, by_us)
        took = took or loop()
        for bucket in (by_hand, by_us):
            _check(influx, bucket, bench.traffic.totals())
        writes = alone(_writes, server.url, server.port, influx.make_bucket("writes"))
    return {"ours_per_s": ours_per_s, "hand_per_s": road.records / took.wall_s, **writes}


def _worker(road: ours.Road, influx: Influx, bucket: str) -> float:
    """`genledger worker points`, from its first records to its last: until it has stood still for a while."""
    role = road.installation.role("points", **influx.environ(bucket))
    role.start()
    try:
        deadline_s = clock.monotonic_s() + TIMEOUT_S
        moved: list[tuple[int, float]] = []
        while not moved or clock.monotonic_s() - moved[-1][1] < SETTLE_S:
            taken, now_s = _taken(role), clock.monotonic_s()
            if taken and (not moved or taken != moved[-1][0]):
                moved.append((taken, now_s))
            if now_s > deadline_s:
                raise BenchmarkFailed(f"after {TIMEOUT_S:g} s {taken} of {road.records} records are points")
            sleep(LOOK_S)
    finally:
        role.kill()
    (first, first_s), (last, last_s) = moved[0], moved[-1]
    # Few records are taken at once: then the first look sees the last of them.
    return (last - first) / (last_s - first_s) if last > first else road.records / LOOK_S


def _taken(role: Role) -> int:
    """How far it is, by its own figures: offsets, among which are the few ends of transactions."""
    lines = role.request("GET", "/metrics")[1].splitlines()
    return sum(round(float(line.split()[1])) for line in lines if line.startswith(_APPLIED))


def _check(influx: Influx, bucket: str, expected: Totals) -> None:
    """The points add up to what was sent."""
    asked = "SELECT count(requests), sum(total_tokens), sum(cost_nano) FROM llm_usage"
    [series] = influx.influxql(asked, bucket)["results"][0]["series"]
    found = Totals(*series["values"][0][1:])
    if found != expected:
        raise BenchmarkFailed(f"the points of {bucket} add up to {found}, sent was {expected}")


def _writes(url: str, port: int, bucket: str) -> Figures:
    """A hundred points a time: through our writer, and by a bare POST, by turns."""
    return asyncio.run(_write_by_turns(url, port, bucket))


async def _write_by_turns(url: str, port: int, bucket: str) -> Figures:
    target = Target(url=url, token="", org="", bucket=bucket, write_timeout_s=10.0, dedup="time")
    server = Server(target)
    await server.open()
    writer, pool = Writer(server), await Pool.open(port, 1)
    took_ms: dict[str, list[float]] = {"write_100": [], "hand_write_100": []}
    try:
        for turn in range(WRITES + WARM_UP):
            some = some_points(turn)
            for name, write in (("write_100", _ours), ("hand_write_100", _by_hand)):
                started_s = clock.monotonic_s()
                await write(writer, partial(hand.post_lines, pool, port, bucket), some)
                if turn >= WARM_UP:
                    took_ms[name].append((clock.monotonic_s() - started_s) * 1000)
    finally:
        pool.close()
        await server.close()
    return {
        f"{name}_p{p}_ms": percentile(sorted(all_ms), p / 100)
        for name, all_ms in took_ms.items()
        for p in (50, 99)
    }


async def _ours(writer: Writer, post: Post, some: Sequence[Point]) -> None:
    refused = await writer.write([Line(line_of(point, "time"), point) for point in some])
    if refused:
        raise BenchmarkFailed(f"InfluxDB refuses a point: {refused[0].message}")


async def _by_hand(writer: Writer, post: Post, some: Sequence[Point]) -> None:
    await post("\n".join([hand.point_line(told_of(point)) for point in some]).encode())


def some_points(turn: int) -> Sequence[Point]:
    """A hundred points of one organisation."""
    first_ns = 1_795_000_000_000_000_000 + turn * 1_000_000_000
    return [
        Point(
            *(
                f"gen-{turn}-{n}",
                first_ns + n * 1_000_000 + 1_000_000,
                "org-01",
                f"model-{n % 5}",
                "OpenAI",
                "sdk",
            ),
            *("user-1", "user-1", "2026-11-18", 1000 + n, 50, 1050 + n, 12_300_000, 15_990_000, None, n, n),
        )
        for n in range(WRITE_LINES)
    ]


def told_of(point: Point) -> hand.Told:
    """The same as the loop by hand has it."""
    called = hand.Called(
        *(point.organization, point.day, point.model, point.user, point.provider),
        *(point.prompt_tokens, point.completion_tokens, point.total_tokens),
        *(point.cost_nano or 0, point.markup_nano or 0, point.source, point.user_id, point.time_ns),
    )
    return hand.Told("counted", point.request_id, point.offset, point.logged_ms, called)


def healthy(bench: Bench) -> Figures:
    """With InfluxDB there."""
    with running(bench.base) as server:
        return _latency(bench, server.influx, server.influx.make_bucket("points"))


def away(bench: Bench) -> Figures:
    """With nobody listening there."""
    return _latency(bench, Influx(f"http://{HOST}:{free_port()}"), "points")


def _latency(bench: Bench, influx: Influx, bucket: str) -> Figures:
    # The run's own events, which are the same in each round, to the byte.
    traffic = bench.traffic.first(max(1, round(RATE * bench.seconds)))
    return latency(bench.base, traffic, RATE, bench.seed + 1, Way(influx.environ(bucket)))
