"""Against a real `genledger serve` that goes away: killed, started again, killed once more."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from streams.client import AsyncClient, Client
from tests.road.harness import Service, clean_environ, wait_until

ROOT = Path(__file__).parents[2]
FLUSH_S = 40
HEAVY = ("faust", "mode", "aiokafka", "rocksdict", "sqlalchemy", "aiohttp")


def _day(service, organization):
    rows = service.get(f"/api/v1/usage/daily?org={organization}")["rows"]
    return sum(row["total_requests"] for row in rows)


def _counted(service, organization, count):
    """Exactly so many, when everything has been decided."""
    wait_until(lambda: _day(service, organization) >= count, FLUSH_S, f"{count} counted", service)
    assert _day(service, organization) == count


def test_an_import_is_light():
    """A program that only records loads no Faust, no Kafka, no RocksDB."""
    script = f"import sys, streams.client; print([name for name in {HEAVY} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=ROOT, check=True)
    assert run.stdout == b"[]\n"


def test_a_gateway_that_is_killed_counts_every_id_once(tmp_path):
    """Events recorded while it is there, while it dies and while it is away all count, and none twice."""
    service = Service(tmp_path / "data").start()
    url = f"http://127.0.0.1:{service.port}"
    recorders = [
        Recorder(Client(url, spool=spool, organization=name, linger_s=0.01, backoff_s_max=0.2))
        for name, spool in (("spool", tmp_path / "spool"), ("memory", None))
    ]
    try:
        for one in recorders:
            wait_until(lambda one=one: one.client.state().sent > 50, FLUSH_S, "sent some", service)
        service.kill()
        for one in recorders:
            wait_until(lambda one=one: one.client.state().trouble, FLUSH_S, "noticed")
        service.start()
        for one in recorders:
            one.end()
            assert one.client.flush(FLUSH_S)
            _counted(service, one.ids[0].partition("-")[0], len(one.ids))
            assert one.client.close() == 0
        service.assert_books_balance()
    finally:
        for one in recorders:
            one.end()
        service.kill()


class Recorder:
    """A thread that records about a thousand events a second."""

    def __init__(self, client):
        self.client = client
        self.ids = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(client._organization,))
        self._thread.start()

    def _run(self, name):
        for n in range(100_000):
            if self._ended.wait(0.001):
                return
            self.ids.append(self.client.record(id=f"{name}-{n}", model="m", cost="0.01"))

    def end(self):
        """Record no more."""
        self._ended.set()
        self._thread.join()


async def test_asyncio_records_without_being_held_up(service, tmp_path):
    """Tasks record at once to a spool; each counts once, and errors come as they are."""
    url = f"http://127.0.0.1:{service.port}"
    async with AsyncClient(url, spool=tmp_path / "spool", organization="async") as ledger:
        for n in range(50):
            await ledger.record(id=f"async-{n}", model="m", cost="0.01")
        await ledger.record_json(b'{"id":"async-50","model":"m","cost":0.01}')
        assert await ledger.flush(FLUSH_S)
        assert ledger.state().sent == 51
    _counted(service, "async", 51)


def test_a_key_that_does_not_hold_keeps_the_events(service, tmp_path):
    """A wrong address or key is mended in the program, not paid for with events."""
    client = Client(
        f"http://127.0.0.1:{service.port}/elsewhere", spool=tmp_path / "spool", organization="kept"
    )
    client.record(id="kept-1", model="m", cost="0.01")
    wait_until(lambda: client.state().trouble.startswith("404"), FLUSH_S, "refused")
    assert client.close(0.1) == 1
    with Client(f"http://127.0.0.1:{service.port}", spool=tmp_path / "spool") as mended:
        assert mended.flush(FLUSH_S)
    _counted(service, "kept", 1)


def _run(service, *arguments, **environ):
    environ = {**clean_environ(), "GENLEDGER_URL": f"http://127.0.0.1:{service.port}", **environ}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, **environ},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("name", "prefix"), [("threads", "threads"), ("asynchronous", "async")])
def test_an_example_of_the_client_runs(service, name, prefix):
    """Twenty calls, all taken."""
    run = _run(service, f"examples/client/{name}.py")
    assert (run.returncode, run.stderr) == (0, "")
    assert "20 recorded; all taken: True" in run.stdout
    assert service.get(f"/api/v1/generations/gen-{prefix}-19")["known"]


def test_the_example_with_a_spool_runs_while_nobody_answers(service, tmp_path):
    """The first run leaves its events in the spool, the second sends them."""
    away = {"GENLEDGER_URL": "http://127.0.0.1:9"}
    first = subprocess.run(
        [sys.executable, "-c", _short("examples/client/spooled.py"), str(tmp_path / "spool"), "5"],
        env={**clean_environ(), **away},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "left in the spool: 5" in first.stdout, first.stderr
    second = _run(service, "examples/client/spooled.py", tmp_path / "spool")
    assert "left in the spool: 0" in second.stdout, second.stderr
    assert service.get("/api/v1/generations/gen-spooled-4")["known"]


def _short(path):
    """The example, giving up sooner than it would."""
    return (ROOT / path).read_text().replace("timeout_s=5", "timeout_s=0.2")
