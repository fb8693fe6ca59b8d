"""Backups of a running ledger, and what can be put back of them: whole, in part, older, damaged, killed."""

import asyncio
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import tarfile
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from genledger import archive, restoration
from genledger.main import run
from genledger.progress import Progress
from projections.stores.lock import FileLock
from streams import faultpoints, topics
from streams.errors import LogDamaged, LogError
from streams.log.interface import Message
from streams.log.sqlite import copy
from streams.log.sqlite.lock import Lock
from streams.log.sqlite.log import open_log
from tests.model.traffic import generate
from tests.road.comparison import digest
from tests.road.files import VIEWS, connect, ends
from tests.road.harness import COMMAND, NDJSON, Service, clean_environ, running, set_up, wait_until
from tests.road.run import check, feed, settle, sizes

DAY = "2025-11-20"


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    """Commands run here see no settings but the test's."""
    for name in os.environ:
        if name.startswith("GENLEDGER_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def event(n):
    base = {"id": f"gen-{n}", "organization": "acme", "model": "m", "cost": "0.01"}
    return json.dumps({**base, "created_at": f"{DAY}T12:00:00Z"}).encode()


def post(service, numbers):
    status, body, _ = service.request("POST", "/api/v1/generations", b"\n".join(map(event, numbers)), NDJSON)
    assert status == 202, body


def totals(data):
    with closing(connect(data / VIEWS)) as views:
        return views.execute("SELECT total_requests, raw_cost_nano FROM client_daily_usage").fetchall()


def of(count):
    """The totals of so many events."""
    return [(count, count * 10_000_000)] if count else []


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A ledger of 100 events, and a backup of when it had 50, made while it ran."""
    folder = tmp_path_factory.mktemp("backups")
    with running(folder / "data") as service:
        post(service, range(50))
        settle(service)
        done = subprocess.run(
            [str(COMMAND), "backup", str(folder / "50.tar.gz"), "--data", str(service.data), "--json"],
            env=clean_environ(),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert run(["restore", str(folder / "50.tar.gz"), "--data", str(service.data), "--replace"]) == 1
        post(service, range(50, 100))
        settle(service)
        assert service.stop() == 0
    (folder / "manifest.json").write_bytes(done.stdout)
    return folder


@pytest.fixture
def data(made, tmp_path):
    """A copy of that ledger, to do things to."""
    shutil.copytree(made / "data", tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def backup(made):
    """The backup of when it had 50 events."""
    return made / "50.tar.gz"


async def opened(data):
    """Opens the log as the service does at start; how many records it holds."""
    log = await open_log(f"sqlite:///{data / 'log'}", topics.topic_table())
    try:
        return sum(log.end_offset(topics.GENERATIONS, n) for n in range(4))
    finally:
        await log.close()


# Under load


def events(data):
    """How many events are on the log."""
    return sum(end for (topic, _), end in ends(data).items() if topic == topics.GENERATIONS)


def back_up_under_load(tmp_path, traffic, backups):
    """Back up again and again while everything is posted; the backups, and the digest of all that came."""
    data = tmp_path / "data"
    with running(data) as service:
        set_up(service, traffic)
        told = []
        feeder = threading.Thread(
            target=lambda: told.append(feed(service, traffic.deliveries, sizes(1, 5, 12)))
        )
        feeder.start()
        files = []
        for n in range(backups):
            enough = len(traffic.deliveries) * (n + 1) // (backups + 4)
            wait_until(lambda enough=enough: events(data) > enough, 60, "fed", service)
            files.append(tmp_path / f"{n}.tar")
            assert run(["backup", str(files[-1]), "--data", str(data)]) == 0
            assert feeder.is_alive(), "the backup was not made under load"
        feeder.join()
        settle(service)
        assert service.stop() == 0, service.tail()
    check(data, traffic, told[0])
    held = [sum(archive.read_manifest(file).log.ends.values()) for file in files]
    assert held == sorted(held) and held[0] < held[-1]
    return files, digest(data)


def put_back(data, file, traffic):
    """Restore and start a backup, and send it everything again; the digest of where it ends."""
    assert run(["restore", str(file), "--data", str(data)]) == 0
    with running(data) as service:
        settle(service)
        assert run(["books", "--url", f"http://127.0.0.1:{service.port}"]) == 0
        set_up(service, traffic)
        told = feed(service, traffic.deliveries, sizes(2, 500, 1000))
        settle(service)
        assert run(["books", "--url", f"http://127.0.0.1:{service.port}"]) == 0
        assert service.stop() == 0, service.tail()
    check(data, traffic, told, at_least=True)
    return digest(data)


async def test_a_backup_made_under_load_starts_and_ends_where_the_first_ledger_did(tmp_path):
    """Restored, it starts, its books balance, and when all is sent again its figures are the model's."""
    small = generate(7, 600)
    (first, second), expected = await asyncio.to_thread(back_up_under_load, tmp_path, small, 2)
    assert await asyncio.to_thread(put_back, tmp_path / "first", first, small) == expected
    assert run(["restore", str(second), "--data", str(tmp_path / "second")]) == 0
    assert await opened(tmp_path / "second") > 0


@pytest.mark.soak
def test_many_backups_made_under_load(tmp_path, traffic):
    """The same of five backups, all started, amid more traffic."""
    files, expected = back_up_under_load(tmp_path, traffic, 5)
    for file in files:
        assert put_back(tmp_path / file.stem, file, traffic) == expected


def test_what_is_made_of_something_is_pinned_before_it(data, tmp_path, monkeypatch):
    """The views, then the ledger's file, then that of its sources: so no copy is ahead of the next one."""
    pinned, connect_to = [], copy.connect

    def connected(path, *, read_only):
        pinned.append(path.name)
        assert read_only
        return connect_to(path, read_only=read_only)

    monkeypatch.setattr(copy, "connect", connected)
    assert run(["backup", str(tmp_path / "b.tar"), "--data", str(data)]) == 0
    assert pinned[:3] == [VIEWS, "ledger.db", "intake.db"]


def test_a_view_ahead_of_the_log_is_not_backed_up(data, tmp_path, capsys):
    """What the service would refuse is no backup."""
    with closing(sqlite3.connect(data / VIEWS)) as views:
        views.execute("UPDATE positions SET usage_offset = usage_offset + 1000")
        views.commit()
    assert run(["backup", str(tmp_path / "b.tar"), "--data", str(data)]) == 1
    assert "the log's copy ends at" in capsys.readouterr().err and not (tmp_path / "b.tar").exists()


async def test_a_writer_never_makes_a_copy_begin_again(tmp_path, monkeypatch):
    """A file is copied in one go, and as it was, while hundreds of commits come in."""
    monkeypatch.setattr(copy, "STEP_BYTES", 1 << 16)
    log = await open_log(f"sqlite:///{tmp_path / 'log'}", topics.topic_table())

    async def put(count):
        await log.append([Message(topics.GENERATIONS, n % 4, b"key", b"x" * 1000) for n in range(count)])

    await put(5000)
    steps, stop = [], threading.Event()

    def moved(step_bytes):
        steps.append(step_bytes)
        assert len(steps) < 1000, "it begins again and again"
        time.sleep(0.002)

    async def write():
        commits = 0
        while not stop.is_set():
            await put(20)
            commits += 1
        return commits

    with copy.pinned_log(tmp_path / "log", topics.topic_table()) as files:
        writing = asyncio.create_task(write())
        try:
            await asyncio.to_thread(files["intake"].copy_to, tmp_path / "intake.db", moved)
        finally:
            stop.set()
            commits = await writing
        assert commits > 20 and len(steps) > 50, "not under load"
        assert sum(steps) == files["intake"].size_bytes == (tmp_path / "intake.db").stat().st_size
        assert min(steps) >= 0, "it began again"
    await log.close()
    with copy.Pinned(tmp_path / "intake.db") as pinned:
        found = pinned.state().found.partitions
        assert sum(partition.next for partition in found.values()) == 5000


async def test_compaction_between_two_copies_is_noticed(tmp_path, monkeypatch):
    """No copy lacks what compaction took between the ledger's copy and that of its source."""
    log = await open_log(f"sqlite:///{tmp_path / 'log'}", topics.topic_table())
    writer = await log.writer(topics.LEDGER_GROUP, topics.GENERATIONS, 0)
    await log.append([Message(topics.GENERATIONS, 0, b"key", b"%d" % n) for n in range(10)])
    loop, pinned = asyncio.get_running_loop(), []
    pin = copy._acknowledged

    async def compact():
        await writer.commit([Message(topics.USAGE, 0, b"key", b"{}")], 10)
        assert await log.compact(topics.GENERATIONS) == 9

    def between(path):
        if path.name == "intake.db" and path.name not in pinned:
            asyncio.run_coroutine_threadsafe(compact(), loop).result(10)
        pinned.append(path.name)
        return pin(path)

    monkeypatch.setattr(copy, "_acknowledged", between)

    def look():
        with copy.pinned_log(tmp_path / "log", topics.topic_table()) as files:
            return files["ledger"].state().taken

    assert list((await asyncio.to_thread(look)).values()) == [10]
    assert pinned.count("intake.db") >= 2, "compaction did not get between"
    await log.close()


# Older parts


@pytest.mark.soak  # tests/road/test_faults.py does the same by hand
def test_the_views_of_yesterday_catch_up(data, backup):
    """Fault row 31: put back while the log went on, they go on from their own position."""
    assert run(["restore", str(backup), "--data", str(data), "--views-only"]) == 1
    assert run(["restore", str(backup), "--data", str(data), "--views-only", "--replace"]) == 0
    assert totals(data) == of(50)
    with running(data) as service:
        settle(service)
        assert totals(data) == of(100)


def test_an_older_log_is_refused_by_views_that_are_ahead_and_the_message_leads_out(data, backup):
    """It ends with 1 and names `genledger replay`, which makes it start; all sent again is right."""
    assert run(["restore", str(backup), "--data", str(data), "--log-only", "--replace"]) == 0
    assert not (data / "tables").exists()
    refused = Service(data).start(wait=False)
    assert refused._ended(30) == 1
    assert "this log does not have" in refused.tail() and "`genledger replay`" in refused.tail()
    assert run(["replay", "--data", str(data)]) == 0
    with running(data) as service:
        assert totals(data) == of(50)
        post(service, range(100))
        settle(service)
        assert totals(data) == of(100)
        assert run(["books", "--url", f"http://127.0.0.1:{service.port}"]) == 0


async def test_a_restored_log_is_another_and_guards_what_it_acknowledged(data, backup, tmp_path):
    """It has an identity of its own, which half published files see, and marks made from its own files."""
    before = archive.read_manifest(backup).log.identity
    assert run(["restore", str(backup), "--data", str(data), "--replace"]) == 0
    log = await open_log(f"sqlite:///{data / 'log'}", topics.topic_table())
    assert log.identity != before
    await log.close()
    assert await opened(data) == 50
    with closing(sqlite3.connect(data / "log" / "intake.db")) as intake:
        for n in range(4):
            intake.execute(f'DELETE FROM "generations-{n}"')
        intake.execute("UPDATE partitions SET next_offset = 0")
        intake.commit()
    with pytest.raises(LogDamaged, match="acknowledged records are missing"):
        await opened(data)


async def test_nothing_of_what_was_there_is_deleted(data, backup):
    """--replace moves the old ledger aside, whole, and what was made of it; nothing of that is taken up."""
    waits = ("snapshot-checked.db", "snapshot.db", "trim-last.json")
    for name in ("replay.db", "replay-done.db", "prove.db-wal", "prove-last.json", *waits):
        (data / name).write_bytes(b"made of the old log")
    assert run(["restore", str(backup), "--data", str(data), "--replace"]) == 0
    (aside,) = data.glob("before-restore-*")
    assert totals(data) == of(50) and totals(aside) == of(100)
    assert (await opened(data), await opened(aside)) == (50, 100)
    assert (aside / "tables").is_dir()
    assert (aside / "replay-done.db").exists() and not list(data.glob("replay*")) + list(data.glob("prove*"))
    assert not (data / "restoring").exists()
    assert all((aside / name).exists() and not (data / name).exists() for name in waits)


# Kill -9


def killed_at(point, *arguments):
    """Run a command in a process of its own that dies at a point."""
    child = os.fork()
    if child == 0:
        faultpoints._countdown = faultpoints._Countdown(point)
        run(list(arguments))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, "it was not killed"


@pytest.mark.parametrize("point", ["backup-copied", "backup-written"])
def test_a_killed_backup_leaves_no_file(data, tmp_path, point):
    """There is no FILE after kill -9, and the next backup clears away what was left."""
    file = tmp_path / "b.tar"
    killed_at(point, "backup", str(file), "--data", str(data))
    assert not file.exists() and (tmp_path / "b.tar.part").exists()
    assert run(["backup", str(file), "--data", str(data)]) == 0
    assert file.exists() and not (tmp_path / "b.tar.part").exists()


def test_an_interrupted_backup_leaves_nothing(data, tmp_path, monkeypatch):
    """Ctrl-C exits with 130; the file that was there before stays, and nothing is beside it."""
    file = tmp_path / "b.tar"
    file.write_bytes(b"older")

    def interrupt(_progress, done, total):
        raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "moved", interrupt)
    with pytest.raises(SystemExit, match="130"):
        run(["backup", str(file), "--data", str(data), "--force"])
    assert file.read_bytes() == b"older" and not (tmp_path / "b.tar.part").exists()


POINTS = ["restore-unpacked", "restore-marked", "restore-emptied", "restore-placed"]


@pytest.mark.parametrize("point", POINTS)
async def test_a_killed_restore_leaves_the_old_ledger_or_one_that_refuses(data, backup, point):
    """After kill -9 the log opens as it was or not at all; restored again it is the backup's."""
    killed_at(point, "restore", str(backup), "--data", str(data), "--replace")
    if point == "restore-unpacked":
        assert await opened(data) == 100
    else:
        with pytest.raises(LogError, match="estore"):
            await opened(data)
    assert run(["restore", str(backup), "--data", str(data), "--replace"]) == 0
    assert await opened(data) == 50 and totals(data) == of(50)
    assert not (data / "restoring").exists()


async def test_a_killed_restore_into_a_fresh_folder_does_not_start(tmp_path, backup):
    """Where nothing was before, half a restore is refused, too, and nothing is made in its place."""
    fresh = tmp_path / "fresh"
    killed_at("restore-placed", "restore", str(backup), "--data", str(fresh))
    with pytest.raises(LogDamaged):
        await opened(fresh)
    assert not (fresh / "log" / "intake.db").exists()
    assert run(["restore", str(backup), "--data", str(fresh)]) == 1
    assert run(["restore", str(backup), "--data", str(fresh), "--replace"]) == 0
    assert await opened(fresh) == 50


@pytest.mark.soak
@pytest.mark.parametrize("point", POINTS)
def test_the_service_starts_from_a_whole_ledger_only(data, backup, point):
    """The same, with a real `genledger serve` after each kill."""
    killed_at(point, "restore", str(backup), "--data", str(data), "--replace")
    service = Service(data)
    if point == "restore-unpacked":
        with service:
            settle(service)
            assert totals(data) == of(100)
    else:
        assert service.start(wait=False)._ended(30) == 1 and "estore" in service.tail()
    assert run(["restore", str(backup), "--data", str(data), "--replace"]) == 0
    with running(data) as again:
        settle(again)
        assert totals(data) == of(50)


# The file


def test_the_manifest_says_what_is_in_the_file(made, backup):
    """It comes first, --json prints it, no view is ahead of the log, and only the owner may read the file."""
    printed = json.loads((made / "manifest.json").read_bytes())
    with tarfile.open(backup) as tar:
        names = tar.getnames()
        raw = json.load(tar.extractfile("manifest.json"))
    assert printed == raw
    assert names == ["manifest.json", VIEWS, "log/ledger.db", "log/intake.db"]
    assert [member["name"] for member in raw["members"]] == names[1:]
    positions, log_ends = raw["views"]["positions"], raw["log"]["ends"]
    assert sum(at + 1 for place, at in positions.items() if place.startswith("summaries/")) == 50
    assert all(log_ends["usage/" + place.partition("/")[2]] > at for place, at in positions.items())
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600


def members_of(file):
    with tarfile.open(file) as tar:
        return [(info, tar.extractfile(info).read()) for info in tar]


def tar_of(path, members):
    with tarfile.open(path, "w") as tar:
        for info, raw in members:
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return path


def named(name, **fields):
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def renamed(raw, old, new):
    """A manifest in which a member has another name."""
    return raw.replace(old.encode(), new.encode())


HOSTILE = ["../evil.db", "/tmp/evil.db", "log/../../evil.db", "log/evil.db", "genledger.db/x"]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("told", [True, False], ids=["in the manifest", "in the tar"])
def test_a_name_that_leads_elsewhere_is_refused(backup, tmp_path, name, told, capsys):
    """Input row 48: an archive that names another place is refused, and nothing is written anywhere."""
    (first, raw), views, ledger, intake = members_of(backup)
    if told:
        raw = renamed(raw, "log/intake.db", name)
    evil = tar_of(tmp_path / "evil.tar", [(first, raw), views, ledger, (named(name), intake[1])])
    fresh = tmp_path / "inner" / "fresh"
    assert run(["restore", str(evil), "--data", str(fresh)]) == 1
    assert "Traceback" not in capsys.readouterr().err
    found = {path.name for path in tmp_path.rglob("*.db")}
    assert found == set() and not Path("/tmp/evil.db").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_member_that_is_no_plain_file_is_refused(backup, tmp_path, kind, capsys):
    """Links, pipes and devices under a right name are not made."""
    (first, raw), _, *log = members_of(backup)
    info = named(VIEWS, type=kind, linkname="/etc/passwd")
    manifest = json.loads(raw)
    manifest["members"][0] |= {"size_bytes": 0, "sha256": hashlib.sha256().hexdigest()}
    raw = json.dumps(manifest).encode()
    evil = tar_of(tmp_path / "evil.tar", [(first, raw), (info, b""), *log])
    assert run(["restore", str(evil), "--data", str(tmp_path / "fresh")]) == 1
    assert "is not what its manifest says" in capsys.readouterr().err
    assert not (tmp_path / "fresh" / VIEWS).exists()


def damaged(kind, raw):
    """An archive's bytes, spoilt."""
    plain = bytearray(gzip.decompress(raw))
    if kind == "cut":
        return bytes(plain[: len(plain) // 2])
    if kind == "cut gzip":
        return raw[: len(raw) // 2]
    if kind == "no archive":
        return b"no archive" * 1000
    if kind == "empty":
        return b""
    place = {"views": 0.1, "ledger": 0.5, "intake": 0.9}[kind]
    plain[int(len(plain) * place)] ^= 1
    return bytes(plain)


@pytest.mark.parametrize("kind", ["views", "ledger", "intake", "cut", "cut gzip", "no archive", "empty"])
async def test_a_damaged_file_is_refused_before_anything_is_touched(data, backup, tmp_path, kind, capsys):
    """A flipped byte, half a file or none: exit code 1, a message, and the ledger stays as it is."""
    spoilt = tmp_path / "spoilt.tar"
    spoilt.write_bytes(damaged(kind, backup.read_bytes()))
    assert run(["restore", str(spoilt), "--data", str(data), "--replace"]) == 1
    assert "spoilt.tar" in capsys.readouterr().err
    assert await opened(data) == 100 and totals(data) == of(100)
    assert not list(data.glob("before-restore-*")) and not (data / "restoring").exists()


def test_a_file_that_lacks_a_member_is_refused(backup, tmp_path, capsys):
    """What the manifest names must be there: a file that ends early, however neatly, is not whole."""
    short = tar_of(tmp_path / "b.tar", members_of(backup)[:2])
    assert run(["restore", str(short), "--data", "fresh", "--views-only"]) == 1
    assert "ends before log/ledger.db" in capsys.readouterr().err
    assert not (tmp_path / "fresh" / VIEWS).exists()


def test_a_file_of_a_newer_format_says_so(backup, tmp_path, capsys):
    """An archive that this version does not know is refused by its number."""
    (first, raw), *rest = members_of(backup)
    newer = tar_of(tmp_path / "b.tar", [(first, renamed(raw, '"format": 1', '"format": 2')), *rest])
    assert run(["restore", str(newer), "--data", str(tmp_path / "fresh")]) == 1
    assert "format 2" in capsys.readouterr().err


def test_a_damaged_log_is_not_backed_up(data, tmp_path, capsys):
    """A log that lacks what it acknowledged gives no backup: the last good one stays."""
    for end in ("", "-wal", "-shm"):
        (data / "log" / f"intake.db{end}").unlink(missing_ok=True)
    with closing(sqlite3.connect(data / "log" / "ledger.db")) as ledger:
        ledger.execute("UPDATE partitions SET next_offset = 0")
        ledger.commit()
    shutil.copy(data / "log" / "ledger.db", data / "log" / "intake.db")
    assert run(["backup", str(tmp_path / "b.tar"), "--data", str(data)]) == 1
    assert "acknowledged" in capsys.readouterr().err and not (tmp_path / "b.tar").exists()


# Use


def test_a_running_service_is_not_restored_over(data, backup, capsys):
    """While somebody writes the log or the views, nothing is put back."""
    for take, path, options in (
        (Lock, data / "log", ["--log-only"]),
        (FileLock, data / VIEWS, ["--views-only"]),
        (Lock, data / "log", []),
    ):
        lock = take(path)
        try:
            assert run(["restore", str(backup), "--data", str(data), "--replace", *options]) == 1
        finally:
            lock.release()
        assert "process" in capsys.readouterr().err
    assert totals(data) == of(100)


def test_a_dry_run_says_what_it_would_do_and_does_nothing(data, backup, tmp_path, capsys):
    """It lists the members, what would go aside, refuses what would be refused, and makes no folder."""
    assert run(["restore", str(backup), "--data", str(tmp_path / "fresh"), "--dry-run"]) == 0
    assert "log/ledger.db" in capsys.readouterr().out and not (tmp_path / "fresh").exists()
    assert run(["restore", str(backup), "--data", str(data), "--dry-run"]) == 1
    assert "--replace" in capsys.readouterr().err
    assert run(["restore", str(backup), "--data", str(data), "--dry-run", "--replace"]) == 0
    assert "would move aside: intake.db" in capsys.readouterr().err
    assert not list(data.glob("before-restore-*"))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["backup", "b.tar", "--data", "nowhere"], 1, "no ledger in nowhere"),
        (["backup", "b.zip", "--data", "data"], 2, ".tar.gz"),
        (["backup", "taken.tar", "--data", "data"], 2, "--force"),
        (["backup", "no/such/b.tar", "--data", "data"], 2, "not a folder"),
        (["restore", "b.tar", "--data", "data"], 2, "not a file"),
        (["restore", "taken.tar", "--views-only", "--log-only"], 2, "exclude"),
        (["restore", "taken.tar", "--data", "data"], 1, "taken.tar"),
    ],
    ids=str,
)
def test_wrong_use_is_a_message(data, tmp_path, arguments, code, said, capsys):
    """No ledger, another suffix, a name that is taken: the message says what to do."""
    (tmp_path / "taken.tar").write_bytes(b"mine")
    assert run(arguments) == code
    assert said in capsys.readouterr().err
    assert (tmp_path / "taken.tar").read_bytes() == b"mine"
    assert not (tmp_path / "nowhere").exists()


def test_on_a_cluster_only_the_views_are_copied(data, backup, tmp_path, monkeypatch, capsys):
    """The log is Kafka's: a backup holds the views, and an embedded log can't be put back."""
    monkeypatch.setenv("GENLEDGER_BROKER", "kafka://127.0.0.1:1")
    assert run(["backup", "b.tar", "--data", str(data)]) == 0
    assert list(archive.read_manifest(tmp_path / "b.tar").names()) == [VIEWS]
    assert run(["restore", "b.tar", "--data", "fresh"]) == 0
    assert totals(tmp_path / "fresh") == of(100)
    assert run(["restore", str(backup), "--data", "other"]) == 1
    assert "--views-only" in capsys.readouterr().err
    assert restoration.FIRST == "intake"
