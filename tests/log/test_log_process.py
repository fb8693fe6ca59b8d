"""What happens to acknowledged records when the process dies, the disk is full, or an fsync fails.

Fault rows 19, 20 and 21: the faults are real ones, made by SIGKILL and by a preloaded library.
"""

import errno
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from streams.log.interface import Record
from streams.log.sqlite import SqliteLog, open_log
from tests.faults.shim import Shim
from tests.log.appender import FAILED, TOPICS, value_of

ROOT = Path(__file__).parents[2]
SEED = 20_250_725


class Process:
    """An appender, with its answers so far."""

    def __init__(self, directory: Path, first: int = 0, environment: dict[str, str] | None = None) -> None:
        self.answers_path = directory / "answers"
        arguments = [str(directory / "log"), str(self.answers_path), str(first)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.log.appender", *arguments], cwd=ROOT, env=environment
        )

    def answers(self, kind: str) -> list[list[int]]:
        """The numbers of each answer of a kind, over all runs."""
        lines = [line.split() for line in self.answers_path.read_text().splitlines()]
        return [[int(number) for number in line[1:]] for line in lines if line[0].startswith(kind)]

    def wait_for(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 15
        while not (self.answers_path.exists() and done()):
            assert self.process.poll() is None, f"the appender ended with {self.process.returncode}"
            assert time.monotonic() < deadline, "the appender makes no progress"
            time.sleep(0.005)

    def wait_for_more(self, kind: str, count: int) -> None:
        before = len(self.answers(kind)) if self.answers_path.exists() else 0
        self.wait_for(lambda: len(self.answers(kind)) >= before + count)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def shim(tmp_path: Path) -> Shim:
    return Shim.build(tmp_path)


async def everything(log: SqliteLog, topic: str) -> dict[int, Record]:
    found: dict[int, Record] = {}
    offset = log.start_offset(topic, 0)
    while offset < log.end_offset(topic, 0):
        for record in await log.read(topic, 0, offset, 10_000):
            found[record.offset] = record
        offset = max(found) + 1
    return found


async def check_acknowledged(directory: Path, process: Process) -> dict[int, Record]:
    """Everything acknowledged is there, as it was sent; facts and source offset agree."""
    log = await open_log(f"sqlite:///{directory}/log", TOPICS)
    try:
        events = await everything(log, "events")
        for number, offset in process.answers("ack"):
            assert events[offset].value == value_of(number), f"number {number} at offset {offset}"
        facts = [int(record.key or b"") for record in (await everything(log, "facts")).values()]
        committed = await log.committed("g", "events", 0)
        assert committed == (facts[-1] if facts else None)
        assert {number for (number,) in process.answers("commit")} <= set(facts)
    finally:
        await log.close()
    return events


async def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path) -> None:
    """After each of many kills at random moments, all that was ever acknowledged is there."""
    chance = random.Random(SEED)
    for run in range(14):
        process = Process(tmp_path, first=run * 1_000_000)
        process.wait_for_more("ack", chance.randrange(1, 150))
        time.sleep(chance.random() / 100)
        process.kill()
        assert process.process.returncode == -9
        await check_acknowledged(tmp_path, process)


async def test_a_full_disk_refuses_and_is_over_when_freed(tmp_path: Path, shim: Shim) -> None:
    """Callers get `LogFull`, nothing of theirs is written, and when there is room again the log goes on."""
    process = Process(tmp_path, environment=shim.environment())
    try:
        process.wait_for_more("ack", 20)
        shim.fail("write", errno.ENOSPC, "intake.db")
        process.wait_for_more("full", 20)
        shim.heal()
        process.wait_for_more("ack", 20)
    finally:
        process.kill()
    assert any(fault.startswith(f"write {errno.ENOSPC}") for fault in shim.faults())
    events = await check_acknowledged(tmp_path, process)
    refused = {value_of(number) for (number,) in process.answers("full")}
    assert refused.isdisjoint(record.value or b"" for record in events.values())
    assert list(events) == list(range(len(events)))


async def test_a_failed_fsync_ends_the_process(tmp_path: Path, shim: Shim) -> None:
    """After one failed fsync nothing is acknowledged any more, healed disk or not, and the process exits."""
    process = Process(tmp_path, environment=shim.environment())
    try:
        process.wait_for_more("ack", 20)
        shim.fail("sync", errno.EIO, "intake.db-wal")
        process.wait_for_more("error", 1)
        shim.heal()
        assert process.process.wait(timeout=10) == FAILED
    finally:
        process.kill()
    assert any(fault.startswith(f"sync {errno.EIO}") for fault in shim.faults())
    kinds = [line.split()[0] for line in process.answers_path.read_text().splitlines()]
    assert kinds.count("error") >= 4
    assert "ack" not in kinds[kinds.index("error") :]
    await check_acknowledged(tmp_path, process)


async def test_a_failed_fsync_of_a_checkpoint_ends_the_process(tmp_path: Path, shim: Shim) -> None:
    """The copy from the WAL into the file is no place for a swallowed error either."""
    process = Process(tmp_path, environment=shim.environment())
    try:
        process.wait_for_more("ack", 1)
        shim.fail("sync", errno.EIO, "intake.db$")
        process.wait_for_more("error", 1)
        shim.heal()
        assert process.process.wait(timeout=10) == FAILED
    finally:
        process.kill()
    assert all(fault.endswith("intake.db") for fault in shim.faults()) and shim.faults()
    await check_acknowledged(tmp_path, process)
