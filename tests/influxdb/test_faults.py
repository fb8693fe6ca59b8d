"""What goes wrong between the points and InfluxDB: nothing is missing or double, and nobody else waits."""

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.influxdb.expected import all_sent, differences, expected, is_sent, sqlite_points, stored
from tests.influxdb.fake import (
    RESET_AFTER,
    STALL_AFTER,
    TOO_LARGE,
    UNAVAILABLE,
    Fake,
    Fault,
    throttled,
)
from tests.influxdb.real import Influx
from tests.influxdb.traffic import crowd, event, with_more
from tests.kafka.proxy import Proxy
from tests.model.traffic import Traffic, generate
from tests.road.files import Files, model_of
from tests.road.harness import Service, running, set_up, wait_until
from tests.road.run import feed, settle, sizes

SENT_S = 60.0
TOKEN = "token-that-nobody-may-see"
RSS_GROWTH_BYTES_MAX = 96 << 20
PER_S = 200


@pytest.fixture
def fake() -> Iterator[Fake]:
    """An InfluxDB 2 that wants a token."""
    with Fake(token=TOKEN) as found:
        yield found


@contextmanager
def serving(data: Path, fake: Fake, **environ: str) -> Iterator[Service]:
    """A service whose points go there; afterwards the token is in nothing that it said."""
    settings = {"INFLUXDB_URL": fake.url, "INFLUXDB_BUCKET": "points", "INFLUXDB_ORG": "o"}
    with running(data, **{**settings, "INFLUXDB_TOKEN": TOKEN, **environ}) as service:
        yield service
        for path in ("/api/v1/status", "/readyz", "/metrics", "/api/v1/rejected?limit=1000"):
            assert TOKEN not in str(service.request("GET", path)[1])
    assert TOKEN not in service.output.read_text()


def wait_sent(service: Service, fake: Fake) -> None:
    """Until it has every point, by the position that is kept with them."""
    settle(service)
    log = Files(service.data)
    done = lambda: all_sent(fake.rows("genledger_positions"), log)  # noqa: E731
    wait_until(done, SENT_S, f"sent: {service.tail()}", service)


def test_whatever_it_answers_every_point_is_there_in_the_end_and_the_summaries_never_wait(
    fake: Fake, tmp_path: Path
) -> None:
    """Rows 22 and 24: 503, 429, no answer, a reset before and after the body is applied, too large."""
    data = tmp_path / "data"
    traffic = generate(11, 400)
    rounds: list[list[Fault]] = [[UNAVAILABLE, RESET_AFTER, TOO_LARGE], [STALL_AFTER, throttled(1)]]
    part = len(traffic.deliveries) // len(rounds) + 1
    with serving(data, fake, INFLUXDB_WRITE_TIMEOUT="400") as service:
        set_up(service, traffic)
        for n, faults in enumerate(rounds):
            before = len(fake.writes)
            fake.next(*faults)
            feed(service, traffic.deliveries[n * part : (n + 1) * part], sizes(n, 100, 200))
            settle(service)
            if n == 0:
                assert len(fake.rows("genledger_positions")) == 0, "the summaries waited for the points"
            wait_sent(service, fake)
            wanted = [0 if fault.stalls or fault.resets else fault.status for fault in faults]
            assert [one.status for one in fake.writes[before : before + len(faults)]] == wanted
        assert all(one.headers["Authorization"] == f"Token {TOKEN}" for one in fake.writes)
    model, _ = model_of(data, traffic)
    assert differences(stored(fake.rows("llm_usage")), expected(model)) == []


@pytest.mark.parametrize(("version", "size"), [("2", 5000), pytest.param("3", 500, marks=pytest.mark.soak)])
def test_one_bad_point_of_5000_is_kept_aside_and_no_other(version: str, size: int, tmp_path: Path) -> None:
    """Row 23: exactly that one is on generations.rejected, with its line and the server's own words."""
    data = tmp_path / "data"
    said = "max key length exceeded, for a test"
    events = crowd(size)
    bad = events[321] = {**events[321], "model": "bad"}
    told = with_more(Traffic(0), events)
    with Fake(version=version, token=TOKEN) as fake:
        fake.is_bad = lambda point: said if point.tags.get("model") == "bad" else ""
        with serving(data, fake, GENLEDGER_PARTITIONS="1") as service:
            feed(service, told.deliveries, sizes(0, size, size))
            wait_sent(service, fake)
            [rejected] = service.get("/api/v1/rejected?limit=1000")["rejected"]
            wait_until(
                lambda: "genledger_points_refused_total 1.0" in service.request("GET", "/metrics")[1],
                *(20.0, "counted", service),
            )
        want = expected(model_of(data, told)[0])
        del want[str(bad["id"])]
        assert len(want) == size - 1
        assert differences(stored(fake.rows("llm_usage")), want) == []
    assert (rejected["reason"], rejected["key"]) == ("influxdb", bad["id"])
    assert said in rejected["error"]
    assert max(len(one.body.splitlines()) for one in fake.writes) >= size / 10, "there was no great batch"


def test_killed_between_the_204_and_the_position_every_point_is_there_once(
    influxdb: Influx, bucket: str, tmp_path: Path
) -> None:
    """Kill -9 of the points' process when InfluxDB has a batch: it is written again, and is the same."""
    data = tmp_path / "data"
    traffic = generate(12, 400)
    half = len(traffic.deliveries) // 2
    with running(data, kill_at="points-written", **influxdb.environ(bucket)) as service:
        set_up(service, traffic)
        feed(service, traffic.deliveries[:half], sizes(1, 100, 200))
        wait_until(lambda: "killed at points-written" in service.tail(), 20.0, "killed", service)
        settle(service)
        assert influxdb.count(bucket) > 0
        assert influxdb.rows(bucket, "genledger_positions") == []
        service.kill()
    with running(data, **influxdb.environ(bucket)) as service:
        feed(service, traffic.deliveries[half:], sizes(2, 100, 200))
        settle(service)
        log = Files(data)
        wait_until(lambda: is_sent(influxdb, bucket, log), SENT_S, "sent", service)
    model, _ = model_of(data, traffic)
    assert differences(stored(influxdb.rows(bucket, "llm_usage")), expected(model)) == []


@pytest.mark.parametrize("away_s", [0, pytest.param(300, marks=pytest.mark.soak)])
def test_away_under_load_nothing_is_missing_and_memory_is_bounded(
    influxdb: Influx, bucket: str, tmp_path: Path, away_s: int
) -> None:
    """While InfluxDB is away all else goes on and the log is the buffer; when it is back everything comes.

    In the soak it is away for five minutes by the clock.
    """
    data = tmp_path / "data"
    told = with_more(Traffic(0), crowd(6_000 + away_s * PER_S))
    parts = urlsplit(influxdb.url)
    with Proxy(str(parts.hostname), parts.port or 8086) as proxy:
        away = Influx(f"http://{proxy.address}", influxdb.token, influxdb.org)
        with running(data, **away.environ(bucket)) as service:
            feed(service, told.deliveries[:1000], sizes(1, 500, 500))
            wait_until(lambda: influxdb.count(bucket) == 1000, SENT_S, "begun", service)
            before = rss_bytes(service)
            proxy.refuse = True
            assert proxy.cut() > 0
            began_s = time.monotonic()
            feed(service, told.deliveries[1000:-200], paced(PER_S) if away_s else sizes(2, 1000, 2000))
            settle(service)
            assert time.monotonic() - began_s >= away_s
            wait_until(lambda: "can't be reached" in alarm(service), 20.0, "alarm", service)
            assert service.get_status("/readyz") == 200
            assert proxy.counts.refused > 0
            assert influxdb.count(bucket) < 2000
            assert sqlite_points(data) == []
            assert rss_bytes(service) - before < RSS_GROWTH_BYTES_MAX
            proxy.refuse = False
            log = Files(data)
            wait_until(lambda: is_sent(influxdb, bucket, log), SENT_S, "sent", service)
            assert rss_bytes(service) - before < RSS_GROWTH_BYTES_MAX
            wait_until(lambda: not alarm(service), 20.0, "without an alarm", service)
            # Away once more, and the service is killed while points wait: no position may be ahead of them.
            proxy.refuse = True
            proxy.cut()
            feed(service, told.deliveries[-200:], sizes(3, 100, 100))
            settle(service)
            wait_until(lambda: bool(alarm(service)), 20.0, "alarm", service)
            service.kill()
        proxy.refuse = False
        with running(data, **away.environ(bucket)) as service:
            wait_until(lambda: is_sent(influxdb, bucket, Files(data)), SENT_S, "sent", service)
    model, _ = model_of(data, told)
    assert differences(stored(influxdb.rows(bucket, "llm_usage")), expected(model)) == []


def test_a_wrong_token_is_told_without_the_token(fake: Fake, tmp_path: Path) -> None:
    """Who may not write is in red health, with what to mend; the token is nowhere."""
    wrong = "wrong-" + TOKEN
    with serving(tmp_path / "data", fake, INFLUXDB_TOKEN=wrong) as service:
        told = with_more(Traffic(0), [event("one")])
        feed(service, told.deliveries, sizes(0, 1, 1))
        settle(service)
        wait_until(lambda: "INFLUXDB_TOKEN" in alarm(service), 20.0, "alarm", service)
        assert service.get_status("/readyz") == 200
    assert fake.rows("llm_usage") == []


def paced(per_s: int) -> Iterator[int]:
    """Batch sizes without end, five a second, at so many calls a second."""
    for n in itertools.count(1):
        due_s = time.monotonic() + 0.2
        yield per_s // 5 + n % 2  # not always the same, and never less
        time.sleep(max(0.0, due_s - time.monotonic()))


def alarm(service: Service) -> str:
    """Why points wait, as the status has it; '' when they don't."""
    found: str = service.get("/api/v1/status")["alarms"].get("InfluxDB", "")
    return found


def rss_bytes(service: Service) -> int:
    """What the points' process holds."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
            parent = path.with_name("stat").read_text().rsplit(")", 1)[1].split()[1]
            pages = int(path.with_name("statm").read_text().split()[1])
        except OSError:
            continue
        if b"genledger.points" in words and int(parent) == service.pid:
            return pages * 4096
    raise AssertionError("there is no points' process")
