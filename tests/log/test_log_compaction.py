"""Compaction of the embedded log: what it may not take, what it leaves when it is killed, what it costs."""

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from streams import faultpoints, topics
from streams.errors import LogDamaged
from streams.log.interface import Message, Record, TopicSpec
from streams.log.sqlite import Bounds, SqliteLog, copy, open_log
from tests.ledger.sim import event
from tests.log.compactor import HASTY, TOPICS

ROOT = Path(__file__).parents[2]
SEED = 20_261_122
MADE_ANEW = "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = DELETE; VACUUM;"
Model = Mapping[bytes, bytes | None]


async def open_at(directory: Path, bounds: Bounds = HASTY) -> SqliteLog:
    return await open_log(f"sqlite:///{directory}", TOPICS, bounds=bounds)


async def append(log: SqliteLog, *pairs: tuple[bytes | None, bytes | None]) -> None:
    for at in range(0, len(pairs), 2_000):
        await log.append([Message("events", 0, key, value) for key, value in pairs[at : at + 2_000]])


async def everything(log: SqliteLog) -> list[Record]:
    found: list[Record] = []
    offset = log.start_offset("events", 0)
    while records := await log.read("events", 0, offset, 10_000):
        found += records
        offset = records[-1].offset + 1
    return found


def compact_elsewhere(directory: Path, kill_at: str = "") -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    if kill_at:
        environment[faultpoints.ENVIRONMENT] = kill_at
    return subprocess.run(
        [sys.executable, "-m", "tests.log.compactor", str(directory)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def check(records: list[Record], model: Model) -> None:
    """Each key's newest record is there, unless it is a null: then that, or nothing at all of the key."""
    newest = {record.key: record.value for record in records if record.key is not None}
    assert {key: value for key, value in newest.items() if value is not None} == {
        key: value for key, value in model.items() if value is not None
    }
    offsets = [record.offset for record in records]
    assert offsets == sorted(set(offsets))


async def test_an_undecided_record_outlives_compaction(tmp_path: Path) -> None:
    """The dearer version of an id stays until the ledger has read it, though a later record has its key."""
    log = await open_log(f"sqlite:///{tmp_path}/log", topics.topic_table(1))
    try:
        for cost in ("2", "1"):
            await log.append([Message(topics.GENERATIONS, 0, b"gen-1", event(id="gen-1", cost=cost))])
        assert await log.committed("ledger", topics.GENERATIONS, 0) is None
        await log.compact(topics.GENERATIONS)
        assert len(await log.read(topics.GENERATIONS, 0, 0, 10)) == 2
    finally:
        await log.close()


KILLS = (
    "compaction-piece:1",
    "compaction-piece:6",
    "compaction-transaction:2",
    "compaction-shrinking:1",
    "compaction-piece:3",
)


async def test_a_kill_anywhere_leaves_every_winner_and_revives_nobody(tmp_path: Path) -> None:
    """Killed at any point, again and again, each key's newest stands; in the end only those do."""
    chance = random.Random(SEED)
    model: dict[bytes, bytes | None] = {}
    for number, kill in enumerate(KILLS):
        log = await open_at(tmp_path)
        pairs = [
            (b"%d" % chance.randrange(900), None if chance.random() < 0.3 else b"%d-%d" % (number, i) * 40)
            for i in range(4_000)
        ]
        await append(log, *pairs)
        model |= pairs
        await log.close()
        done = compact_elsewhere(tmp_path, kill)
        assert done.returncode == -9, done.stderr
        log = await open_at(tmp_path)
        check(await everything(log), model)
        await log.close()
    for _ in range(2):  # a null goes in the pass after it was seen
        assert compact_elsewhere(tmp_path).returncode == 0
    log = await open_at(tmp_path)
    left = await everything(log)
    kept = {key: value for key, value in model.items() if value is not None}
    assert {record.key: record.value for record in left if record.value is not None} == kept
    assert len(left) - len(kept) <= 1  # the last record stays, whatever it is
    await log.close()


async def test_appends_go_between_the_pieces(tmp_path: Path) -> None:
    """While 100,000 records are compacted producers' appends are acknowledged: counted, not timed."""
    log = await open_at(tmp_path)
    await append(log, *[(b"%d" % (i % 2_000), b"v" * 100) for i in range(100_000)])
    before = log._stores["intake"].commits
    compaction = asyncio.create_task(log.compact("events"))
    appended = 0
    while not compaction.done():
        await append(log, (b"new-%d" % appended, b"v"))
        appended += 1
    assert await compaction == 98_000
    # A transaction takes a piece at most, and whatever waits meanwhile.
    assert log._stores["intake"].commits - before >= 98_000 / HASTY.compaction_records
    assert appended > 100
    assert len(await everything(log)) == 2_000 + appended
    assert (await log.size("events")).records == 2_000 + appended
    await log.close()


async def test_a_reader_under_way_meets_every_winner(tmp_path: Path) -> None:
    """Who reads while records are removed around its place goes on with the next there is."""
    log = await open_at(tmp_path)
    await append(log, *[(b"%d" % (i % 300), b"%d" % i) for i in range(30_000)])
    compaction = asyncio.create_task(log.compact("events"))
    seen: dict[bytes | None, bytes | None] = {}
    offset = 0
    while records := await log.read("events", 0, offset, 50):
        seen |= {record.key: record.value for record in records}
        offset = records[-1].offset + 1
        await asyncio.sleep(0)
    await compaction
    assert seen == {b"%d" % (i % 300): b"%d" % i for i in range(29_700, 30_000)}
    newest = await log.latest("events", 0, b"7")
    assert newest is not None and newest.value == b"29707"
    await log.close()


SPECS_AGED = (TOPICS[0], TopicSpec("aged", 1, retention_ms=1_000, store="intake"), TOPICS[1])


async def test_a_reader_never_takes_what_just_went_for_damage(tmp_path: Path) -> None:
    """Records that went since it looked are no hole to a reader, in the same process or another."""
    now_ms = 1_000_000
    url = f"sqlite:///{tmp_path}"
    bounds = msgspec.structs.replace(HASTY, tail_bytes=0)
    log = await open_log(url, SPECS_AGED, clock=lambda: now_ms, bounds=bounds)
    for topic in ("events", "aged"):
        await log.append([Message(topic, 0, b"%d" % (i % 10), b"v") for i in range(100)])
    reader = await open_log(url, SPECS_AGED, bounds=bounds, read_only=True)
    store, other = log._stores["intake"], reader._stores["intake"]
    commit = store.commit
    seen: list[int] = []

    def commit_and_read() -> None:
        commit()  # durable, and not yet published
        seen.extend(len(store.read_file(store.partitions[topic, 0], 0, 5)) for topic in ("events", "aged"))

    store.commit = commit_and_read  # type: ignore[method-assign]
    then = dict(other.partitions)
    now_ms += 5_000
    await log.append([Message("aged", 0, b"young", b"v")])
    assert (await log.compact("events"), await log.compact("aged")) == (90, 100)
    assert len(seen) >= 6 and 0 not in seen
    assert [r.offset for r in other.read_file(then["events", 0], 0, 3)] == [90, 91, 92]
    assert [r.offset for r in other.read_file(then["aged", 0], 50, 3)] == [100]
    await reader.close()
    await log.close()


async def test_memory_does_not_grow_with_the_keys(tmp_path: Path) -> None:
    """The keys of a pass are on the disk: Python holds some of them at a time."""
    log = await open_at(tmp_path)
    await append(log, *[(b"generation-%030d" % i, b"") for i in range(40_000)])
    tracemalloc.start()
    try:
        assert await log.compact("events") == 0
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2_000_000, "40,000 keys and offsets are 6 MB in a dictionary"
    assert not list(tmp_path.glob("*.compacting"))
    await log.close()


async def test_free_pages_are_given_back(tmp_path: Path) -> None:
    """When most of a file's records have gone, so has most of its size on the disk, save a reserve."""
    log = await open_at(tmp_path)
    await append(log, *[(b"%d" % (i % 100), b"v" * 500) for i in range(10_000)])
    await log.close()
    log = await open_at(tmp_path)
    before_bytes = (tmp_path / "intake.db").stat().st_size
    assert await log.compact("events") == 9_900
    given_bytes = await log.shrink()
    await log.close()
    after_bytes = (tmp_path / "intake.db").stat().st_size
    assert before_bytes > 5_000_000
    assert after_bytes < before_bytes / 10
    assert given_bytes == pytest.approx(before_bytes - after_bytes, abs=100_000)
    log = await open_at(tmp_path)
    assert len(await everything(log)) == 100
    await log.close()


async def make_older(directory: Path) -> None:
    """A file as an older genledger made it: without the pass written down, and with pages that stay."""
    await (await open_at(directory)).close()
    with sqlite3.connect(directory / "intake.db", isolation_level=None) as connection:
        connection.execute("DROP TABLE compaction")
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode = WAL")


async def test_an_older_file_is_compacted_and_reuses_its_pages(tmp_path: Path) -> None:
    """A file made before pages could be given back stays as large as it was, and no larger."""
    await make_older(tmp_path)
    log = await open_at(tmp_path)
    await append(log, *[(b"%d" % (i % 100), b"v" * 500) for i in range(4_000)])
    assert await log.compact("events") == 3_900
    assert await log.shrink() == 0
    await log.close()
    before_bytes = (tmp_path / "intake.db").stat().st_size
    log = await open_at(tmp_path)
    await append(log, *[(b"%d" % (i % 100), b"w" * 500) for i in range(3_500)])
    await log.close()
    assert (tmp_path / "intake.db").stat().st_size <= before_bytes


async def test_an_older_file_that_was_made_anew_gives_pages_back(tmp_path: Path) -> None:
    """What the decision record tells an operator to do works, and the log is the same log."""
    await make_older(tmp_path)
    log = await open_at(tmp_path)
    await append(log, *[(b"%d" % (i % 100), b"v" * 500) for i in range(2_000)])
    await log.close()
    with sqlite3.connect(tmp_path / "intake.db", isolation_level=None) as connection:
        connection.executescript(MADE_ANEW)
    log = await open_at(tmp_path)
    assert await log.compact("events") == 1_900
    assert await log.shrink() > 500_000
    assert len(await everything(log)) == 100
    await log.close()


def change(directory: Path, statement: str) -> None:
    with sqlite3.connect(directory / "intake.db") as connection:
        connection.execute(statement)


async def test_a_superseded_record_that_is_damaged_stays(tmp_path: Path) -> None:
    """A record whose key has another's bytes is not taken for superseded: the pass ends and names it."""
    log = await open_at(tmp_path)
    await append(log, (b"a", b"1"), (b"b", b"2"), (b"c", b"3"))
    await log.compact("events")
    await log.close()
    change(tmp_path, """UPDATE "events-0" SET key = x'63' WHERE "offset" = 0""")
    log = await open_at(tmp_path, Bounds(check_records=0, quick_check_bytes=0))
    await append(log, (b"c", b"4"), (b"d", b"5"))
    with pytest.raises(LogDamaged, match="events/0 offset 0"):
        await log.compact("events")
    assert log.end_offset("events", 0) == 5
    await append(log, (b"e", b"6"))  # the log goes on
    await log.close()
    with sqlite3.connect(tmp_path / "intake.db") as connection:
        assert connection.execute('SELECT count(*) FROM "events-0"').fetchone() == (6,)


async def test_a_pass_that_was_changed_by_hand_is_damage(tmp_path: Path) -> None:
    """How far the last pass came decides which nulls may go: it has a checksum, too."""
    log = await open_at(tmp_path)
    await append(log, (b"a", b"1"), (b"a", b"2"), (b"b", b"2"))
    await log.compact("events")
    await log.close()
    change(tmp_path, "UPDATE compaction SET below = below + 1")
    with pytest.raises(LogDamaged, match="compaction"):
        await open_at(tmp_path)


async def test_a_copy_made_between_two_pieces_is_noticed(tmp_path: Path) -> None:
    """The first piece says up to where records may be missing: a copy of that moment needs a later ledger."""
    specs = (topics.topic_table(1)[0], TOPICS[1])
    log = await open_log(f"sqlite:///{tmp_path}/log", specs, bounds=HASTY)
    writer = await log.writer(topics.LEDGER_GROUP, topics.GENERATIONS, 0)
    await log.append([Message(topics.GENERATIONS, 0, b"key", b"%d" % i) for i in range(2_000)])
    await writer.commit([], 2_000)
    compaction = asyncio.create_task(log.compact(topics.GENERATIONS))
    while log.start_offset(topics.GENERATIONS, 0) == 0:
        await asyncio.sleep(0)
    states = {}
    for name in ("ledger", "intake"):
        with copy.Pinned(tmp_path / "log" / f"{name}.db") as pinned:
            states[name] = pinned.state()
    assert not compaction.done()
    partition = states["intake"].found.partitions[topics.GENERATIONS, 0]
    assert (partition.compacted_below, partition.is_dense) == (2_000, False)
    assert copy._is_whole(states, specs)
    earlier = dict.fromkeys(states["ledger"].taken, 1_999)
    states["ledger"] = msgspec.structs.replace(states["ledger"], taken=earlier)
    assert not copy._is_whole(states, specs)
    await compaction
    await log.close()


async def test_close_ends_a_compaction_between_two_pieces(tmp_path: Path) -> None:
    """A service that stops does not wait for a pass to end; nothing of the file is held afterwards."""
    log = await open_at(tmp_path, Bounds(compaction_share=0.01))
    await append(log, *[(b"%d" % (i % 10), b"v" * 100) for i in range(5_000)])
    compaction = asyncio.create_task(log.compact("events"))
    await asyncio.sleep(0.01)
    await log.close()
    with pytest.raises(Exception, match="closed"):
        await compaction
    assert not (tmp_path / "intake.db-wal").exists()


@pytest.mark.soak
async def test_two_million_keys_in_bounded_memory(tmp_path: Path) -> None:
    """A first pass over two million ids, and one that takes half of them, need no more than 300 MB."""
    log = await open_at(tmp_path)
    value = b"v" * 300
    for at in range(0, 2_000_000, 20_000):
        await append(log, *[(b"generation-%020d" % (i * 7_919), value) for i in range(at, at + 20_000)])
    await log.close()
    first = compact_elsewhere(tmp_path)
    removed, _, first_kib = map(int, first.stdout.split())
    assert removed == 0
    log = await open_at(tmp_path)
    for at in range(0, 1_000_000, 20_000):
        await append(log, *[(b"generation-%020d" % (i * 7_919), None) for i in range(at, at + 20_000)])
    await log.close()
    before_bytes = (tmp_path / "intake.db").stat().st_size
    removed, given_bytes, second_kib = map(int, compact_elsewhere(tmp_path).stdout.split())
    assert removed == 1_000_000
    assert given_bytes > before_bytes / 4
    assert max(first_kib, second_kib) < 300_000
    shutil.rmtree(tmp_path)
