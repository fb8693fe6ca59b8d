"""The spool: what was recorded outlives its process, whatever cuts it short."""

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.client import Client, Forked, SpoolBusy, SpoolFull, SpoolUnusable
from streams.client.spool import Spool
from tests.client.fakes import error
from tests.road.harness import wait_until

ROOM = 1 << 20
FLUSH_S = 20
ROOT = Path(__file__).parents[2]


def _lines(spool):
    return [row.line for row in spool.oldest(1_000_000, 1 << 40, ())]


def _record(client, *ids):
    for id in ids:
        client.record(id=id, organization="acme", model="m", cost="0.01")


def _killed_while_recording(path, count):
    """A process that has recorded so many, says so, and is killed before it sends anything."""
    script = (
        "import sys, signal, os\n"
        "from streams.client import Client\n"
        f"client = Client('http://127.0.0.1:9', spool={str(path)!r})\n"
        f"for n in range({count}):\n"
        "    client.record(id=f'gen-{n}', organization='acme', model='m', cost='0.01')\n"
        "    print(n, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=ROOT, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr
    return [f"gen-{n.decode()}" for n in run.stdout.split()]


def test_a_process_killed_before_it_sends_loses_nothing(gateway, make_client, tmp_path):
    """Each id that record() returned for is sent by the next start, once, in order, unasked."""
    path = tmp_path / "deep" / "spool"
    recorded = _killed_while_recording(path, 50)
    assert len(recorded) == 50
    make_client(spool=path)
    wait_until(lambda: len(gateway.taken) == 50, FLUSH_S, "sent")
    assert gateway.order == recorded


def test_a_spool_is_its_owners_alone(make_client, tmp_path):
    """Neither another process nor another client of this one may open it, and its file is private."""
    path = tmp_path / "spool"
    make_client(spool=path)
    with pytest.raises(SpoolBusy):
        Client(spool=path)
    script = f"from streams.client import Client; Client(spool={str(path)!r})"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=ROOT, check=False)
    assert b"SpoolBusy" in run.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_spool_has_an_end(gateway, make_client, tmp_path):
    """A full spool says so at the call; once the gateway is back there is room again."""
    gateway.always = lambda events: error(503)
    client = make_client(spool=tmp_path / "spool", spool_bytes_max=2000)
    with pytest.raises(SpoolFull):
        _record(client, *(f"gen-{n}" for n in range(100)))
    kept = client.state().pending
    assert 0 < kept < 20
    gateway.always = None
    assert client.flush(FLUSH_S)
    _record(client, "gen-after")
    assert client.flush(FLUSH_S)
    assert len(gateway.taken) == kept + 1
    assert client.state().pending_bytes == 0


def test_what_is_left_at_the_end_is_the_next_ones(gateway, make_client, tmp_path):
    """Closing while the gateway is away keeps the events, a rejected one is told and gone."""
    path = tmp_path / "spool"
    gateway.always = lambda events: error(503)
    first = make_client(spool=path)
    _record(first, "gen-1", "gen-2")
    assert first.close(timeout_s=0.2) == 2
    told = []
    gateway.always = lambda events: gateway.take(events, lambda event: event["id"] == "gen-1")
    second = make_client(spool=path, on_rejected=lambda event, why: told.append(event["id"]))
    assert second.flush(FLUSH_S)
    assert (told, gateway.order) == (["gen-1"], ["gen-2"])
    second.close()
    assert make_client(spool=path).state().pending == 0


def test_threads_that_record_at_once_share_commits(tmp_path):
    """The disk is waited for together, and each line is there once."""
    spool = Spool(tmp_path / "spool", ROOM)
    commits = []
    spool._connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    start = threading.Barrier(16)

    def add(n):
        start.wait()
        for m in range(20):
            spool.add(b"%d-%d" % (n, m))

    threads = [threading.Thread(target=add, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(_lines(spool)) == sorted(b"%d-%d" % (n, m) for n in range(16) for m in range(20))
    assert 0 < len(commits) <= 320
    assert spool.size()[0] == 320
    spool.close()


def test_a_line_that_is_no_event_blocks_nobody(gateway, make_client, tmp_path):
    """What somebody else wrote into the file is told as rejected, and those behind it are sent."""
    path = tmp_path / "spool"
    spool = Spool(path, ROOM)
    spool.add(b"\x00\xff poison")
    spool.add(b'{"id":"gen-1","organization":"acme","model":"m"}')
    spool.close()
    taking = gateway._reply

    def strict(path, body):
        return error(400) if b"\x00" in body else taking(path, body)

    gateway.reply = strict
    told = []
    client = make_client(spool=path, on_rejected=lambda event, why: told.append((event, why.status)))
    assert client.flush(FLUSH_S)
    assert told == [({}, 400)]
    assert gateway.order == ["gen-1"]


@pytest.mark.parametrize(
    "content", [b"not a database at all, but some other file", b"SQLite format 3\x00" * 20]
)
def test_a_file_that_is_no_spool_is_left_as_it_is(tmp_path, content):
    """The path was a slip: nothing is overwritten."""
    path = tmp_path / "spool"
    path.write_bytes(content)
    with pytest.raises(SpoolUnusable):
        Client(spool=path)
    assert path.read_bytes() == content


def test_another_programs_database_is_left_as_it_is(tmp_path):
    """The same of a database that somebody else made."""
    path = tmp_path / "spool"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (a)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(SpoolUnusable):
        Client(spool=path)
    assert path.read_bytes() == before


@pytest.fixture(scope="module")
def torn(tmp_path_factory):
    """The files of a process that was killed while nothing was yet moved out of the write-ahead log."""
    path = tmp_path_factory.mktemp("torn") / "spool"
    recorded = _killed_while_recording(path, 30)
    wal = path.with_name("spool-wal")
    assert wal.stat().st_size > 10_000
    return path, wal.read_bytes(), recorded


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1), junk=st.binary(max_size=64))
def test_a_torn_tail_costs_only_what_was_not_synced(torn, tmp_path, cut, junk):
    """Wherever the file is cut off or overwritten, what is before is read, in order, and it goes on."""
    path, wal, recorded = torn
    here = tmp_path / "spool"
    shutil.copyfile(path, here)
    end = round(cut * len(wal))
    here.with_name("spool-wal").write_bytes((wal[:end] + junk)[: len(wal)])
    spool = Spool(here, ROOM)
    found = [line.split(b'"')[3].decode() for line in _lines(spool)]
    assert found == recorded[: len(found)]
    if end == len(wal):
        assert found == recorded
    spool.add(b"next")
    assert _lines(spool)[-1] == b"next"
    spool.close()
    for file in here.parent.glob("spool*"):
        file.unlink()


def test_a_child_process_must_make_its_own(make_client, tmp_path):
    """A fork does not use its parent's spool: it is told so, and the parent goes on."""
    client = make_client(spool=tmp_path / "spool")
    child = os.fork()
    if child == 0:
        try:
            _record(client, "gen-child")
        except Forked:
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    _record(client, "gen-parent")
    assert client.flush(FLUSH_S)


def test_a_child_process_that_ends_takes_nothing_along(gateway, make_client, tmp_path):
    """A fork that ends as any program does leaves its parent's records where they are, kill -9 or not."""
    path = tmp_path / "spool"
    script = (
        "import os, signal, sys\n"
        "from streams.client import Client\n"
        f"client = Client('http://127.0.0.1:9', spool={str(path)!r})\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    del client\n"
        "    sys.exit()\n"
        "os.waitpid(child, 0)\n"
        "client.record(id='gen-1', organization='acme', model='m', cost='0.01')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    make_client(spool=path)
    wait_until(lambda: list(gateway.taken) == ["gen-1"], FLUSH_S, "sent")
