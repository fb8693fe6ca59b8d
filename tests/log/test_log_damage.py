"""Fault row 20: what a damaged log says, and that it says it instead of giving wrong records.

Only a tail that nobody was told of may be cut. Everything else refuses, at open or at the read, and names
the place; nothing is repaired.
"""

import random
import shutil
import sqlite3
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from streams.errors import LogDamaged, LogError, LogMismatch
from streams.log.interface import Message, Record, TopicSpec
from streams.log.sqlite import Bounds, SqliteLog, open_log

TOPICS = (
    TopicSpec("events", 2, compacted=True, store="intake"),
    TopicSpec("facts", 1, store="ledger"),
)
UNCHECKED = Bounds(check_records=0, quick_check_bytes=0)
COMMITS = 40
SEED = 20_250_725


def open_at(directory: Path, topics: Sequence[TopicSpec] = TOPICS, **options: object):
    return open_log(f"sqlite:///{directory}", topics, **options)


async def fill(log: SqliteLog) -> None:
    writer = await log.writer("g", "events", 0)
    for number in range(COMMITS):
        value = b"payload-%d-" % number + b"x" * 700
        await log.append([Message("events", 0, b"key-%d" % number, value, (("n", b"%d" % number),))])
        await writer.commit([Message("facts", 0, b"key-%d" % number, value)], number)


async def contents(log: SqliteLog) -> list[Record]:
    return [
        *await log.read("events", 0, 0, 1_000),
        *await log.read("events", 1, 0, 1_000),
        *await log.read("facts", 0, 0, 1_000),
    ]


@pytest.fixture
async def closed(tmp_path: Path) -> Path:
    """A log that was closed properly: everything in the files, no WAL."""
    log = await open_at(tmp_path / "log")
    await fill(log)
    await log.close()
    return tmp_path / "log"


@pytest.fixture
async def killed(tmp_path: Path) -> Path:
    """A log as a kill leaves it: everything acknowledged, most of it only in the WAL."""
    log = await open_at(tmp_path / "running")
    await fill(log)
    # By another process: to open and close a file here would let go of SQLite's locks on it.
    subprocess.run(["cp", "-r", str(tmp_path / "running"), str(tmp_path / "log")], check=True)
    await log.close()
    for left in (tmp_path / "log").glob("*-shm"):
        left.unlink()
    return tmp_path / "log"


def flip(path: Path, position: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


async def refusal(directory: Path, **options: object) -> str:
    with pytest.raises(LogDamaged) as raised:
        await open_at(directory, **options)
    return str(raised.value)


async def test_a_killed_log_opens_with_all_its_records(killed: Path) -> None:
    """A WAL that is whole is no damage."""
    assert (killed / "intake.db-wal").stat().st_size > 100_000
    log = await open_at(killed)
    assert len(await contents(log)) == 2 * COMMITS
    assert await log.committed("g", "events", 0) == COMMITS - 1
    await log.close()


async def test_a_flipped_bit_inside_the_wal_is_no_silent_loss(killed: Path) -> None:
    """SQLite would drop the rest of the WAL: the log refuses, names what is missing, and leaves the files."""
    wal = killed / "intake.db-wal"
    flip(wal, wal.stat().st_size // 2)
    damaged = wal.read_bytes()
    text = await refusal(killed)
    assert "acknowledged records are missing: events/0 offsets" in text
    assert f"..{COMMITS - 1}" in text and "intake.db" in text
    assert wal.read_bytes() == damaged
    assert "acknowledged records are missing" in await refusal(killed)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.98])
async def test_a_shortened_wal_is_no_silent_loss(killed: Path, kept: float) -> None:
    """A WAL cut back below what was acknowledged refuses, whichever file it is of."""
    wal = killed / "ledger.db-wal"
    with wal.open("r+b") as file:
        file.truncate(int(wal.stat().st_size * kept))
    assert "ledger.db: " in await refusal(killed)


async def test_a_lost_progress_is_no_silent_loss(tmp_path: Path) -> None:
    """Commits of a source offset alone count too: none may be missing from the WAL."""
    log = await open_at(tmp_path / "running")
    writer = await log.writer("g", "events", 0)
    await writer.commit([], 1)
    await writer.commit([], 2)
    subprocess.run(["cp", "-r", str(tmp_path / "running"), str(tmp_path / "log")], check=True)
    await log.close()
    wal = tmp_path / "log" / "ledger.db-wal"
    flip(wal, wal.stat().st_size - 100)
    assert "were acknowledged" in await refusal(tmp_path / "log")


async def test_an_unacknowledged_tail_is_cut(killed: Path) -> None:
    """A torn write after the last acknowledged commit is nobody's record: the log opens without it."""
    wal = killed / "intake.db-wal"
    with wal.open("ab") as file:
        file.write(wal.read_bytes()[32 : 32 + 3_000])
    log = await open_at(killed)
    assert len(await contents(log)) == 2 * COMMITS
    assert list(await log.append([Message("events", 0, b"k", b"v")])) == [COMMITS]
    await log.close()


@pytest.mark.parametrize("bounds", [Bounds(), UNCHECKED])
@pytest.mark.parametrize("name", ["intake.db", "ledger.db"])
async def test_no_flipped_bit_in_a_file_gives_other_records(closed: Path, name: str, bounds: Bounds) -> None:
    """Wherever a bit flips, the log either refuses by name or gives exactly what was written."""
    # Many flips fall into the unused room of pages, where they change nothing.
    assert 4 <= await flip_bits(closed, name, (closed / name).stat().st_size, bounds) <= 40


@pytest.mark.parametrize(
    ("name", "least"), [("intake.db-wal", 10), ("ledger.db-wal", 10), ("intake.marks", 0)]
)
async def test_no_flipped_bit_beside_a_file_gives_other_records(killed: Path, name: str, least: int) -> None:
    """The same for what a kill leaves: the WAL, and the marks."""
    size_bytes = 800 if name == "intake.marks" else (killed / name).stat().st_size
    assert least <= await flip_bits(killed, name, size_bytes, Bounds()) <= 40


async def flip_bits(directory: Path, name: str, size_bytes: int, bounds: Bounds) -> int:
    """Flip a bit in each of 40 copies: how many refused, where the others were equal."""
    shutil.copytree(directory, directory.with_name("sound"))
    log = await open_at(directory.with_name("sound"))
    written = await contents(log)
    await log.close()
    chance, refused = random.Random(SEED), 0
    for trial in range(40):
        copy = directory.with_name(f"copy-{trial}")
        shutil.copytree(directory, copy)
        flip(copy / name, chance.randrange(size_bytes), chance.randrange(8))
        refused += await refused_or_equal(copy, written, bounds)
    return refused


async def refused_or_equal(directory: Path, written: Sequence[Record], bounds: Bounds) -> bool:
    try:
        log = await open_at(directory, bounds=bounds)
    except (LogDamaged, LogMismatch):
        return True
    try:
        assert await contents(log) == written
        return False
    except LogDamaged:
        return True
    finally:
        await log.close()


def position_of(path: Path, text: bytes) -> int:
    found = path.read_bytes().find(text)
    assert found > 0
    return found


async def test_a_flipped_bit_in_a_new_record_refuses_to_open(closed: Path) -> None:
    """The newest records are verified when opening; the message has the file and the place."""
    flip(closed / "intake.db", position_of(closed / "intake.db", b"payload-17-") + 3)
    text = await refusal(closed)
    assert "intake.db: events/0 offset 17" in text
    assert "restore the log from a backup" in text


async def test_a_flipped_bit_in_an_old_record_is_found_by_its_reader(closed: Path) -> None:
    """A record that opening did not look at is verified when it is read; those before it are given."""
    flip(closed / "ledger.db", position_of(closed / "ledger.db", b"payload-17-") + 3)
    log = await open_at(closed, bounds=UNCHECKED)
    assert len(await log.read("facts", 0, 0, 17)) == 17
    with pytest.raises(LogDamaged, match=r"ledger.db: facts/0 offset 17"):
        await log.read("facts", 0, 0, 100)
    with pytest.raises(LogDamaged, match=r"facts/0 offset 17"):
        await log.latest("facts", 0, b"key-17")
    await log.close()


async def test_compaction_judges_by_no_damaged_record(closed: Path) -> None:
    """A partition with a bad record is not compacted at all."""
    flip(closed / "intake.db", position_of(closed / "intake.db", b"payload-17-") + 3)
    log = await open_at(closed, bounds=UNCHECKED)
    await log.append([Message("events", 0, b"key-1", b"new")])
    with pytest.raises(LogDamaged, match="events/0 offset 17"):
        await log.compact("events")
    assert len(await log.read("events", 0, 0, 17)) == 17
    await log.close()


@pytest.mark.parametrize("bounds", [Bounds(), UNCHECKED])
async def test_a_missing_record_is_a_damage(closed: Path, bounds: Bounds) -> None:
    """Where nothing was compacted, offsets have no gaps: a row taken out by hand is noticed."""
    with sqlite3.connect(closed / "ledger.db") as connection:
        connection.execute('DELETE FROM "facts-0" WHERE "offset" = 20')
    connection.close()
    with pytest.raises(LogDamaged, match="facts/0 offset 20"):
        log = await open_at(closed, bounds=bounds)
        try:
            await log.read("facts", 0, 0, 100)
        finally:
            await log.close()


async def test_a_changed_progress_is_a_damage(closed: Path) -> None:
    """A writer's source offset has a checksum of its own."""
    with sqlite3.connect(closed / "ledger.db") as connection:
        connection.execute("UPDATE writers SET source_offset = 3")
    connection.close()
    assert "progress of writer" in await refusal(closed)


@pytest.mark.parametrize("name", ["intake.db", "ledger.db"])
@pytest.mark.parametrize("size", [None, 0, 5_000])
@pytest.mark.parametrize("with_marks", [True, False])
async def test_a_missing_or_shortened_file_refuses(
    closed: Path, name: str, size: int | None, with_marks: bool
) -> None:
    """A file that is gone or cut is never made anew beside the others."""
    if size is None:
        (closed / name).unlink()
    else:
        with (closed / name).open("r+b") as file:
            file.truncate(size)
    if not with_marks:
        (closed / name).with_suffix(".marks").unlink()
    assert name in await refusal(closed)


async def test_a_file_that_is_none_of_ours_refuses(closed: Path) -> None:
    """Garbage is damage; another program's database is a mismatch."""
    good = (closed / "intake.db").read_bytes()
    (closed / "intake.db").write_bytes(random.Random(SEED).randbytes(len(good)))
    assert "intake.db" in await refusal(closed)
    (closed / "intake.db").unlink()
    with sqlite3.connect(closed / "intake.db") as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(LogMismatch, match="not a file of genledger"):
        await open_at(closed)


async def test_an_older_file_put_back_refuses_until_told(closed: Path) -> None:
    """A restored file lacks acknowledged records; removing the marks says that this is known."""
    backup = (closed / "intake.db").read_bytes()
    log = await open_at(closed)
    await log.append([Message("events", 1, b"k", b"v")])
    await log.close()
    (closed / "intake.db").write_bytes(backup)
    assert "events/1 offsets 0..0" in await refusal(closed)
    (closed / "intake.marks").unlink()
    log = await open_at(closed)
    assert log.end_offset("events", 1) == 0
    await log.close()


async def test_marks_torn_twice_refuse_and_torn_once_do_not(closed: Path) -> None:
    """One slot is always whole after a kill; if none is, nobody can say what was acknowledged."""
    marks = closed / "intake.marks"
    flip(marks, 50)
    await (await open_at(closed)).close()
    flip(marks, 50)
    flip(marks, 65_536 + 50)
    flip(marks, 51)
    assert "intake.marks" in await refusal(closed)


async def test_a_file_of_another_log_refuses(closed: Path, tmp_path: Path) -> None:
    """Files of two logs don't mix."""
    other = await open_at(tmp_path / "other")
    await other.close()
    for name in ("ledger.db", "ledger.marks"):
        shutil.copy(tmp_path / "other" / name, closed / name)
    with pytest.raises(LogMismatch, match=r"ledger\.db"):
        await open_at(closed)


async def test_another_number_of_partitions_refuses(closed: Path) -> None:
    """A topic opened with another number of partitions says so; a topic not there yet is made."""
    more = (TopicSpec("events", 3, compacted=True), TOPICS[1])
    with pytest.raises(LogMismatch, match="events has 2 partitions, not 3"):
        await open_at(closed, more)
    log = await open_at(closed, (*TOPICS, TopicSpec("users", 1)))
    await log.append([Message("users", 0, b"u", b"v")])
    await log.close()
    log = await open_at(closed, (*TOPICS, TopicSpec("users", 1)))
    assert len(await log.read("users", 0, 0, 10)) == 1
    await log.close()


async def test_a_newer_format_refuses(closed: Path) -> None:
    """A file of a later genledger is not touched."""
    with sqlite3.connect(closed / "ledger.db") as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(LogMismatch, match="format 2"):
        await open_at(closed)


async def test_a_log_killed_while_it_was_made_is_made_again(tmp_path: Path) -> None:
    """Files without any record, with or without the first one, are no damage."""
    log = await open_at(tmp_path / "log")
    identity = log.identity
    await log.close()
    for name in ("intake.db", "intake.marks"):
        (tmp_path / "log" / name).unlink()
    log = await open_at(tmp_path / "log")
    assert log.identity == identity
    await log.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "kafka://host", "log"])
async def test_an_address_of_another_kind_is_refused(url: str) -> None:
    """Only sqlite:/// addresses name a directory."""
    with pytest.raises(LogError, match="sqlite:///"):
        await open_log(url, TOPICS)
