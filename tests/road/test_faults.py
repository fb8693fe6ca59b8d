"""Faults of a running service, each one real, each asserting that it happened."""

import errno
import json
import signal
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.faults.shim import Shim
from tests.road.files import VIEWS, connect
from tests.road.harness import NDJSON, Died, Service, running, wait_until
from tests.road.run import settle

DAY = "2025-11-20"


def event(n: int, **fields: Any) -> bytes:
    """An event of the organisation acme."""
    base = {"id": f"gen-{n}", "organization": "acme", "model": "m", "cost": "0.01"}
    return json.dumps({**base, "created_at": f"{DAY}T12:00:00Z", **fields}).encode()


def post(service: Service, *events: bytes) -> tuple[int, Any, dict[str, str]]:
    """Post events once, whatever comes of it."""
    return service.request("POST", "/api/v1/generations", b"\n".join(events), NDJSON)


def totals(service: Service) -> list[tuple[int, str]]:
    """Requests and cost of each day of acme, when everything is taken."""
    settle(service)
    rows = service.get("/api/v1/usage/daily?org=acme")["rows"]
    return [(row["total_requests"], row["raw_cost"]) for row in rows]


@pytest.mark.parametrize(("phase", "on_log"), [("event-logged", 3), ("event-received", 0)])
def test_killed_before_the_answer_the_retry_counts_once(tmp_path: Path, phase: str, on_log: int) -> None:
    """Fault rows 1, 2: the client saw no 2xx; sent again it counts once, whether the log had it or not."""
    service = Service(tmp_path / "data", kill_at=phase).start()
    with pytest.raises(Died):
        post(service, *(event(n) for n in range(3)))
    assert service.wait_killed(10) and f"killed at {phase}" in service.tail()
    with Service(tmp_path / "data") as again:
        assert totals(again) == ([(on_log, "0.03")] if on_log else [])
        assert post(again, *(event(n) for n in range(3)))[0] == 202
        assert totals(again) == [(3, "0.03")]
        assert again.get("/api/v1/books")["balanced"] is True


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    """Makes system calls on chosen files fail."""
    return Shim.build(tmp_path_factory.mktemp("shim"))


def test_a_full_disk_under_the_log_is_a_507_and_passes(tmp_path: Path, shim: Shim) -> None:
    """Fault row 19: 507 with Retry-After, no torn record, and service again when there is room."""
    with running(tmp_path / "data", **shim.environment()) as service:
        assert post(service, event(1))[0] == 202
        shim.fail("write", errno.ENOSPC, "intake.db")
        status, answer, headers = post(service, event(2))
        assert (status, answer["error"]["code"]) == (507, "disk_full") and int(headers["Retry-After"]) >= 1
        assert shim.faults(), "the disk was never full"
        shim.heal()
        assert post(service, event(2))[0] == 202
        assert totals(service) == [(2, "0.02")]


def test_a_full_disk_under_the_views_delays_only_them(tmp_path: Path, shim: Shim) -> None:
    """Fault row 18: events are still taken, health says why it is red, the views go on when there is room."""
    with running(tmp_path / "data", **shim.environment()) as service:
        shim.fail("write", errno.ENOSPC, "genledger.db")
        assert post(service, event(1))[0] == 202
        wait_until(lambda: service.get_status("/readyz") == 503, 10, "not ready", service)
        assert shim.faults() and "disk full" in json.dumps(service.request("GET", "/readyz?verbose")[1])
        assert post(service, event(2))[0] == 202
        shim.heal()
        assert totals(service) == [(2, "0.02")]
        wait_until(lambda: service.get_status("/readyz") == 200, 10, "ready", service)


def test_a_failed_fsync_ends_the_process(tmp_path: Path, shim: Shim) -> None:
    """Fault row 21: no 2xx, a message, exit code 1; after a restart the retry counts once."""
    service = Service(tmp_path / "data", **shim.environment()).start()
    shim.fail("sync", errno.EIO, "intake.db")
    with pytest.raises((Died, AssertionError)):
        assert post(service, event(1))[0] == 202
    assert service._ended(10) == 1 and shim.faults()
    assert "genledger:" in service.tail()
    shim.heal()
    with Service(tmp_path / "data") as again:
        assert post(again, event(1))[0] == 202
        assert totals(again) == [(1, "0.01")]


def test_a_damaged_log_is_refused_with_its_place(tmp_path: Path) -> None:
    """Fault row 20: a flipped bit in a record; the service does not start, and says where."""
    data = tmp_path / "data"
    with Service(data) as service:
        assert post(service, event(1, model="find-me-here"))[0] == 202
        settle(service)
    file = data / "log" / "intake.db"
    raw = bytearray(file.read_bytes())
    raw[raw.index(b"find-me-here")] ^= 1
    file.write_bytes(raw)
    broken = Service(data).start(wait=False)
    assert broken._ended(20) == 1
    assert "intake.db" in broken.tail() and "generations/" in broken.tail()


def test_another_process_can_not_serve_the_same_data(tmp_path: Path) -> None:
    """One writer a file: a second service on the same folder ends with a message."""
    with running(tmp_path / "data"):
        second = Service(tmp_path / "data")
        second.output = tmp_path / "second.output"
        second.start(wait=False)
        assert second._ended(20) == 1
        assert "open for writing" in second.tail()


def test_views_of_another_log_are_refused(tmp_path: Path) -> None:
    """Fault row 32: the log was recreated; the service stops with a message, and nothing is skipped."""
    data = tmp_path / "data"
    with Service(data) as service:
        post(service, *(event(n) for n in range(50)))
        settle(service)
    for path in (data / "log").iterdir():
        path.unlink()
    stranger = Service(data).start(wait=False)
    assert stranger._ended(20) == 1
    assert "cut back, recreated or restored" in stranger.tail()


def test_yesterdays_views_catch_up(tmp_path: Path) -> None:
    """Fault row 31: an older copy of the views put back goes on from its own position."""
    data = tmp_path / "data"
    with Service(data) as service:
        post(service, *(event(n) for n in range(50)))
        settle(service)
    backup = (data / VIEWS).read_bytes()
    with Service(data) as service:
        post(service, *(event(n) for n in range(100)))
        assert totals(service) == [(100, "1")]
    (data / VIEWS).write_bytes(backup)
    with closing(connect(data / VIEWS)) as views:
        assert views.execute("SELECT total_requests FROM client_daily_usage").fetchone() == (50,)
    with Service(data) as service:
        assert totals(service) == [(100, "1")]


def test_a_reader_that_holds_on_stops_nobody(tmp_path: Path) -> None:
    """Fault row 33: the writer goes on, and the size of its write-ahead log is an alarm."""
    with (
        running(tmp_path / "data", GENLEDGER_WAL_ALARM_BYTES="20000") as service,
        closing(sqlite3.connect(f"file:{service.data / VIEWS}?mode=ro", uri=True)) as reader,
    ):
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM books").fetchall()
        for start in range(0, 2000, 500):
            post(service, *(event(n, user=f"u-{n}") for n in range(start, start + 500)))
        assert totals(service)[0][0] == 2000
        assert reader.execute("SELECT count(*) FROM processed_generations").fetchone() == (0,)
        wait_until(lambda: service.get("/api/v1/status")["alarms"], 5, "alarmed", service)


def test_what_stands_still_ends_the_process(tmp_path: Path) -> None:
    """Lag without movement for the bounded time ends `serve` with a message that says what to do."""
    service = Service(tmp_path / "data", GENLEDGER_STALL_TIMEOUT_S="2").start()
    with closing(sqlite3.connect(service.data / VIEWS, isolation_level=None)) as intruder:
        intruder.execute("BEGIN IMMEDIATE")
        post(service, event(1))
        code = service._ended(30)
    assert code == 1 and "genledger:" in service.tail()


def test_sigterm_drains_and_exits_with_0(tmp_path: Path) -> None:
    """A clean stop is quick, and its exit code says so."""
    service = Service(tmp_path / "data").start()
    post(service, *(event(n) for n in range(1000)))
    assert service.stop() == 0
    assert signal.Signals.SIGKILL.name not in service.tail() and "Traceback" not in service.tail()


def test_a_listener_to_the_stream_does_not_keep_a_stopped_service_alive(tmp_path: Path) -> None:
    """A stop ends within seconds though a client listens to server-sent events, and a body is half sent."""
    service = Service(tmp_path / "data").start()
    with (
        socket.create_connection(("127.0.0.1", service.port)) as listener,
        socket.create_connection(("127.0.0.1", service.port)) as sender,
    ):
        host = f"Host: 127.0.0.1:{service.port}\r\n".encode()
        listener.sendall(b"GET /api/v1/usage/stream?org=acme HTTP/1.1\r\n" + host + b"\r\n")
        assert b"text/event-stream" in listener.recv(4096)
        head = (
            b"POST /api/v1/generations HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
        )
        sender.sendall(head + host + b"\r\n{")
        started_s = time.monotonic()
        assert service.stop() == 0, service.tail()
        assert time.monotonic() - started_s < 8


def test_a_port_that_is_taken_is_a_message(tmp_path: Path) -> None:
    """`serve` on a busy port says which one, and how to give another; no traceback."""
    with Service(tmp_path / "one") as first:
        second = Service(tmp_path / "two")
        second.port = first.port
        second.start(wait=False)
        assert second._ended(20) == 2
        assert "--port" in second.tail() and "Traceback" not in second.tail()
