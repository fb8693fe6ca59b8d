"""A real `genledger serve` beside a real InfluxDB: its points are the winners that are not void."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from projections.stores.influxdb.reader import reader_of, span_of
from projections.stores.influxdb.server import Server
from projections.stores.influxdb.target import Target
from tests.influxdb.expected import differences, expected, is_sent, place, sqlite_points, stored
from tests.influxdb.real import Influx
from tests.influxdb.traffic import NAMES, crowd, odd_names, twins, with_more
from tests.model.tables import tables
from tests.model.traffic import Traffic, generate
from tests.rebuild.command import genledger
from tests.road.comparison import differences as table_differences
from tests.road.files import VIEWS, Files, connect, ends, model_of
from tests.road.fixtures import GENERATIONS, SEED
from tests.road.harness import NDJSON, Service, running, set_up, wait_until
from tests.road.run import feed, settle, sizes

SENT_S = 60.0
SAME_MOMENT = 120


@pytest.mark.parametrize("generations", [3_000, pytest.param(GENERATIONS, marks=pytest.mark.soak)])
def test_after_roads_b_the_points_are_the_winners_that_are_not_void(
    influxdb: Influx, bucket: str, tmp_path: Path, generations: int
) -> None:
    """Duplicates, amendments, voids, take-overs: what Flux reads back is each winner, every field of it."""
    data = tmp_path / "data"
    traffic = generate(SEED, generations)
    # In another order, and in two halves: much of what is amended or void has been a point by then.
    traffic = replace(traffic, deliveries=traffic.shuffled(2))
    told = with_more(traffic, [*crowd(SAME_MOMENT), *odd_names(), *twins("twins")])
    half = len(told.deliveries) // 2
    with serving(data, influxdb, bucket) as service:
        set_up(service, told)
        for part in (told.deliveries[:half], told.deliveries[half:]):
            feed(service, part, sizes(1, 500, 1000))
            wait_sent(service, influxdb, bucket)
        service.assert_books_balance()
        assert service.stop() == 0, service.tail()
    model, _ = model_of(data, told)
    want = expected(model)
    rows = influxdb.rows(bucket, "llm_usage")
    have = stored(rows)
    # Two that share their tags, their millisecond and the hash's remainder are one point: who came last.
    one, other = (want[str(fields["id"])] for fields in twins("twins"))
    assert place(one) == place(other)
    lost = [point["request_id"] for point in (one, other) if point["request_id"] not in have]
    assert len(lost) == 1
    del want[lost[0]]
    assert len({place(point) for point in want.values()}) == len(want), "another two collide"
    assert differences(have, want) == []
    crowded = [point for point in have.values() if point["organization"] == "crowd"]
    assert len(crowded) == SAME_MOMENT and len({point["time_ns"] // 10**6 for point in crowded}) == 1
    assert len({place(point)[:-1] for point in crowded}) == 1
    offsets_are_the_records(rows, data)
    assert sqlite_points(data) == []


@dataclass(frozen=True)
class Tagged:
    """A bucket whose points have their id as a tag, and what was told of them."""

    bucket: str
    data: Path
    told: Traffic


@pytest.fixture(scope="module")
def tagged(influxdb: Influx, tmp_path_factory: pytest.TempPathFactory) -> Tagged:
    """Odd names and ids that collide: each told, amended and told once more."""
    data, bucket = tmp_path_factory.mktemp("tagged") / "data", influxdb.make_bucket()
    events = [*twins("tagged"), *odd_names()]
    amended = [{**fields, "cost": "2", "revision": 1, "user": "another"} for fields in events]
    told = with_more(Traffic(0), [*events, *amended, *events])
    bad = b'{"id":"x","organization":"a","model":"a\\u0007"}\n'
    with serving(data, influxdb, bucket, INFLUXDB_DEDUP="tag") as service:
        feed(service, told.deliveries, sizes(1, 5, 20))
        status, answer, _ = service.request("POST", "/api/v1/generations", bad, NDJSON)
        assert status == 422 and answer["rejected"][0]["field"] == "model"
        wait_sent(service, influxdb, bucket)
    return Tagged(bucket, data, told)


def test_with_the_id_as_a_tag_no_two_points_are_one(influxdb: Influx, tagged: Tagged) -> None:
    """INFLUXDB_DEDUP=tag: what would collide by its time is two points, and an amended one is still one."""
    model, _ = model_of(tagged.data, tagged.told)
    want = expected(model)
    assert len(want) == 2 + len(NAMES) + 1
    assert differences(stored(influxdb.rows(tagged.bucket, "llm_usage")), want) == []


async def test_a_name_that_would_end_a_query_asks_for_its_own_points_only(
    influxdb: Influx, tagged: Tagged
) -> None:
    """Rows 37 and 38: asked for again through a query, each odd name gives what went in under it, no more."""
    place = {"url": influxdb.url, "token": influxdb.token, "org": influxdb.org, "bucket": tagged.bucket}
    server = Server(Target(**place, write_timeout_s=5.0, dedup="tag"))
    days = span_of("2025-10-26", "2025-10-26")
    try:
        await server.open()
        reader = reader_of(server)
        for n, name in enumerate(NAMES):
            found = [point async for point in reader.points(*days, name)]
            assert [point.request_id for point in found] == [f"odd-{n} {name}"]
            assert {found[0].organization, found[0].model, found[0].provider} == {name}
        everything = [point async for point in reader.points(*days)]
    finally:
        await server.close()
    empty = next(point for point in everything if point.request_id == "odd-empty")
    assert (empty.provider, empty.source, empty.user) == ("", "", "another")
    assert len(everything) == 2 + len(NAMES) + 1


def test_switching_influxdb_on_and_off_loses_nothing_and_doubles_nothing(
    influxdb: Influx, bucket: str, tmp_path: Path
) -> None:
    """Each store goes on from where it stood: what was told while it was off is there when it is on again."""
    data = tmp_path / "data"
    traffic = generate(7, 300)
    third = len(traffic.deliveries) // 3
    ways = ((False, 0, third), (True, third, 2 * third), (False, 2 * third, None))
    for n, (on, start, end) in enumerate(ways):
        before = influxdb.rows(bucket, "llm_usage"), sqlite_points(data)
        with serving(data, influxdb, bucket, INFLUXDB_FIRST_ENABLED="true" if on else "false") as service:
            if n == 0:
                set_up(service, traffic)
            feed(service, traffic.deliveries[start:end], sizes(1, 100, 200))
            status = service.get("/api/v1/admin/usage/service-status")
            if on:
                wait_sent(service, influxdb, bucket)
                assert (status["influxdb_first_enabled"], status["bucket"]) == (True, bucket)
                assert service.get_status("/api/v1/usage/points?org=acme") == 409
            else:
                assert status["note"] == "Legacy mode"
                settle(service)
                wait_until(lambda: sqlite_has_all(data), SENT_S, "in SQLite", service)
            assert service.stop() == 0, service.tail()
        model, _ = model_of(data, traffic)
        if on:
            assert differences(stored(influxdb.rows(bucket, "llm_usage")), expected(model)) == []
            assert sqlite_points(data) == before[1], "raw points in SQLite while InfluxDB is on"
        else:
            assert table_differences(data, {"usage_points": tables(model)["usage_points"]}) == []
            assert influxdb.rows(bucket, "llm_usage") == before[0], "points in InfluxDB while it is off"
    assert genledger("prove", "--data", data).returncode == 0


# What is there.


@contextmanager
def serving(data: Path, influxdb: Influx, bucket: str, **environ: str) -> Iterator[Service]:
    """A service whose points go to the bucket."""
    with running(data, **influxdb.environ(bucket), **environ) as service:
        yield service


def wait_sent(service: Service, influxdb: Influx, bucket: str) -> None:
    """Until InfluxDB has every point, by the position that is kept with them."""
    settle(service)
    log = Files(service.data)
    wait_until(lambda: is_sent(influxdb, bucket, log), SENT_S, f"sent: {service.tail()}", service)


def offsets_are_the_records(rows: list[dict[str, Any]], data: Path) -> None:
    """Each point names the record that made it what it is: one of its own id, of that time."""
    known = {
        (offset, time_ms, key)
        for records in Files(data).rows("generations").values()
        for offset, time_ms, key, _, _ in records
    }
    found = {(row["offset"], row["logged_ms"], row["request_id"].encode()) for row in rows}
    assert not {item for item in found - known if b"%" not in item[2]}


def sqlite_has_all(data: Path) -> bool:
    """Has the table of raw points taken every fact?"""
    with closing(connect(data / VIEWS)) as connection:
        sql = "SELECT \"partition\", usage_offset FROM positions WHERE projection = 'points'"
        taken = dict(connection.execute(sql))
    return all(
        end - 1 <= taken.get(number, -1) for (topic, number), end in ends(data).items() if topic == "usage"
    )
