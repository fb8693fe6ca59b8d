"""Locks, bounds and shared commits of the embedded log."""

import asyncio
import os
from pathlib import Path

import pytest

from streams.errors import LogBusy, LogError, LogFull
from streams.log.interface import Message, TopicSpec
from streams.log.sqlite import Bounds, SqliteLog, open_log

TOPICS = (
    TopicSpec("events", 1, compacted=True, store="intake"),
    TopicSpec("facts", 1, store="ledger"),
)


def batch(count: int, size_bytes: int = 1) -> list[Message]:
    return [Message("events", 0, b"%d" % number, bytes(size_bytes)) for number in range(count)]


async def opened(tmp_path: Path, **bounds: int) -> SqliteLog:
    return await open_log(f"sqlite:///{tmp_path}/log", TOPICS, bounds=Bounds(**bounds))


async def test_one_process_writes_a_log(tmp_path: Path) -> None:
    """A second opener is told which process has it; after a close the log is free."""
    log = await opened(tmp_path)
    with pytest.raises(LogBusy, match=f"process {os.getpid()} "):
        await opened(tmp_path)
    await log.close()
    await (await opened(tmp_path)).close()


async def test_a_log_can_be_read_while_another_writes(tmp_path: Path) -> None:
    """Opened for reading it follows what is committed, progress too, and refuses to write."""
    log = await opened(tmp_path)
    reader = await open_log(f"sqlite:///{tmp_path}/log", TOPICS, read_only=True)
    assert reader.identity == log.identity
    waiting = asyncio.create_task(reader.wait({("events", 0): 0}, timeout_s=5))
    await asyncio.sleep(0)
    await log.append(batch(3))
    assert await waiting is True
    assert [record.key for record in await reader.read("events", 0, 0, 10)] == [b"0", b"1", b"2"]
    await (await log.writer("g", "events", 0)).commit([], 3)
    assert await reader.committed("g", "events", 0) == 3
    for write in (reader.append(batch(1)), reader.writer("g", "events", 0), reader.compact("events")):
        with pytest.raises(LogError, match="reading only"):
            await write
    await reader.close()
    await log.close()


async def test_there_is_nothing_to_read_where_no_log_is(tmp_path: Path) -> None:
    """Opening for reading makes no files."""
    with pytest.raises(LogError, match="no log here"):
        await open_log(f"sqlite:///{tmp_path}/log", TOPICS, read_only=True)
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("bounds", [{"waiting_records": 100}, {"waiting_bytes": 350}])
async def test_too_much_waiting_is_refused(tmp_path: Path, bounds: dict[str, int]) -> None:
    """Beyond the bound a caller gets `LogFull` at once and nothing of it is written; later it may."""
    log = await opened(tmp_path, **bounds)
    calls = [log.append(batch(30, size_bytes=2)) for _ in range(10)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, LogFull)]
    assert len(refused) == 7 and not any(outcome.disk for outcome in refused)
    assert log.end_offset("events", 0) == 90
    for start in (90, 120, 150, 180):
        assert list(await log.append(batch(30, size_bytes=2))) == list(range(start, start + 30))
    await log.close()


async def test_a_call_above_the_bound_is_refused_for_good(tmp_path: Path) -> None:
    """What could never be taken is not called full."""
    log = await opened(tmp_path, waiting_records=100)
    with pytest.raises(LogError, match="smaller batches") as raised:
        await log.append(batch(101))
    assert not isinstance(raised.value, LogFull)
    await log.close()


async def test_many_callers_share_a_commit(tmp_path: Path) -> None:
    """A thousand appends at once need a handful of commits, each of a bounded size."""
    log = await opened(tmp_path, group_records=200)
    before = log._stores["intake"].commits
    await asyncio.gather(*(log.append(batch(1)) for _ in range(1_000)))
    assert 5 <= log._stores["intake"].commits - before <= 8
    await log.close()


async def test_a_large_append_lets_others_run(tmp_path: Path) -> None:
    """Rows are written in slices, in one transaction: others have their turn, and see all or nothing."""
    log = await opened(tmp_path, slice_records=500)
    appending = asyncio.create_task(log.append(batch(20_000)))
    turns, seen = 0, set()
    while not appending.done():
        seen.add(log.end_offset("events", 0))
        turns += 1
        await asyncio.sleep(0)
    assert turns >= 40
    assert seen <= {0, 20_000}
    assert list(await appending) == list(range(20_000))
    await log.close()


async def test_the_wal_stays_small(tmp_path: Path) -> None:
    """Checkpoints keep the WAL near its bound however much is written."""
    log = await opened(tmp_path, checkpoint_bytes=1 << 20)
    for _ in range(20):
        await log.append(batch(500, size_bytes=1_000))
    assert (tmp_path / "log" / "intake.db-wal").stat().st_size < 4 << 20
    await log.close()


async def test_a_caller_that_gives_up_disturbs_nobody(tmp_path: Path) -> None:
    """A cancelled append may be written or not; the others are, and the log goes on."""
    log = await opened(tmp_path)
    tasks = [asyncio.create_task(log.append(batch(1))) for _ in range(10)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(outcome, list) for outcome in outcomes) == 9
    assert not log.failed.done()
    await log.close()


async def test_messages_of_two_stores_are_refused(tmp_path: Path) -> None:
    """One call is one transaction is one file; a writer's file is the ledger."""
    log = await opened(tmp_path)
    mixed = [Message("events", 0, b"k", b""), Message("facts", 0, b"k", b"")]
    with pytest.raises(LogError, match="one store"):
        await log.append(mixed)
    writer = await log.writer("g", "events", 0)
    with pytest.raises(LogError, match="'ledger'"):
        await writer.commit(mixed[:1], 1)
    assert await log.committed("g", "events", 0) is None
    await log.close()


@pytest.mark.parametrize("blocking_commit_ms", [0, 2])
async def test_a_busy_event_loop_does_not_starve_commits(tmp_path: Path, blocking_commit_ms: int) -> None:
    """With others working without a pause, an append is acknowledged within some of their turns."""
    log = await opened(tmp_path, blocking_commit_ms=blocking_commit_ms)
    done = asyncio.Event()

    async def work() -> None:
        while not done.is_set():
            for turn in range(10_000):
                abs(turn)
            await asyncio.sleep(0)

    busy = asyncio.create_task(work())
    try:
        async with asyncio.timeout(3):
            for _ in range(20):
                await log.append(batch(1))
    finally:
        done.set()
    await busy
    await log.close()
