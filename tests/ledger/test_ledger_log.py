"""The ledger on a real log and a real table: what it writes, recovers, and refuses to go past."""

import asyncio
import random
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from streams import fact, generation, records, topics
from streams.app import ledger_app
from streams.clock import now_ms
from streams.directory import Directory
from streams.errors import LogError
from streams.fact import Fact
from streams.log.interface import Message
from streams.log.partition import partition_of
from streams.log.sqlite.log import SqliteLog, open_log
from streams.settings import load
from tests.ledger.sim import event

PARTITIONS = 4


class Road:
    """A log with its ledger running."""

    def __init__(self, log: SqliteLog, app: Any, ledger: Any, table: Any) -> None:
        self.log, self.app, self.ledger, self.table = log, app, ledger, table

    async def post(self, *events: bytes, partition: int | None = None) -> None:
        """Append events where they belong, or where a test wants them."""
        messages = []
        for value in events:
            key = generation.decode(value).id.encode()
            place = partition_of(key, PARTITIONS) if partition is None else partition
            messages.append(Message(topics.GENERATIONS, place, key, value))
        await self.log.append(messages)

    async def quiet(self, timeout_s: float = 10.0) -> None:
        """Until every record is decided, those that the ledger published too."""
        async with asyncio.timeout(timeout_s):
            while self.app.crash_reason is None and any(
                self.ledger.next_offset(n) < self.log.end_offset(topics.GENERATIONS, n)
                for n in range(PARTITIONS)
            ):
                await asyncio.sleep(0.005)

    async def facts(self) -> list[Fact]:
        """All facts, partition by partition."""
        found = []
        for n in range(PARTITIONS):
            end = self.log.end_offset(topics.USAGE, n)
            at = 0
            while at < end:
                batch = await self.log.read(topics.USAGE, n, at, 10_000)
                found += [fact.decode(record.value or b"", record.headers) for record in batch]
                at = batch[-1].offset + 1
        return found

    async def fates(self) -> Counter[str]:
        """How many facts of each fate."""
        return Counter(one.fate for one in await self.facts())


@asynccontextmanager
async def road(data: Path, clock: Any = now_ms, **overrides: Any) -> AsyncIterator[Road]:
    """Open the log, run the ledger, stop both."""
    settings = load({}, None, data=str(data), **overrides)
    log = await open_log(settings.broker, topics.topic_table(PARTITIONS), clock=clock)
    directory = Directory(log)
    await directory.refresh()
    app, ledger, table = ledger_app(log, settings, directory)
    await app.start()
    async with asyncio.timeout(10):
        while not app.tables.recovery.completed.is_set():
            await asyncio.sleep(0.005)
    try:
        yield Road(log, app, ledger, table)
    finally:
        await app.stop()
        await log.close()


def known_of(road: Road, id: str) -> Any:
    """What the table holds of an id."""
    key = id.encode()
    return records.anything_of(road.table.get_many(partition_of(key, PARTITIONS), [key])[0])


async def test_each_record_gives_one_fact_in_its_partition_and_in_order(tmp_path: Path) -> None:
    """The facts of a partition name each source offset once, each with the one before it."""
    async with road(tmp_path) as it:
        await it.post(*(event(id=f"gen-{n % 70}", cost="0.01") for n in range(200)))
        await it.quiet()
        facts = await it.facts()
        assert Counter(one.fate for one in facts) == {"counted": 70, "duplicate": 130}
        for n in range(PARTITIONS):
            mine = [one for one in facts if one.partition == n]
            assert [one.offset for one in mine] == list(range(it.log.end_offset(topics.GENERATIONS, n)))
            assert [one.prev for one in mine] == [one.offset - 1 for one in mine]


@pytest.mark.parametrize("store", ["rocksdb", "memory"])
async def test_after_a_restart_it_goes_on_where_it_was(tmp_path: Path, store: str) -> None:
    """A restarted ledger knows every id: twins are duplicates, from disk as from the changelog."""
    async with road(tmp_path, table_store=store) as it:
        await it.post(*(event(id=f"gen-{n}") for n in range(50)))
        await it.quiet()
    async with road(tmp_path, table_store=store) as it:
        await it.post(*(event(id=f"gen-{n}") for n in range(50)))
        await it.quiet()
        assert await it.fates() == {"counted": 50, "duplicate": 50}


async def test_a_lost_table_comes_back_from_its_changelog_also_after_compaction(tmp_path: Path) -> None:
    """With the local files gone, and the changelog compacted, nothing is forgotten."""
    async with road(tmp_path) as it:
        await it.post(*(event(id=f"gen-{n}", cost="0.01") for n in range(50)))
        await it.quiet()
        await it.post(*(event(id=f"gen-{n}", cost="0.02", revision=1) for n in range(50)))
        await it.quiet()
        assert await it.log.compact(topics.SEEN_CHANGELOG) == 50
    shutil.rmtree(tmp_path / "tables")
    async with road(tmp_path) as it:
        await it.post(*(event(id=f"gen-{n}", cost="0.02", revision=1) for n in range(50)))
        await it.quiet()
        assert await it.fates() == {"counted": 50, "amended": 50, "duplicate": 50}


async def test_a_table_ahead_of_its_changelog_is_deleted_and_recovered(tmp_path: Path) -> None:
    """A local store that knows more than the log is no copy of it: ids it alone knows count again."""
    async with road(tmp_path) as it:
        await it.post(event(id="gen-1"))
        await it.quiet()
        partition = partition_of(b"gen-2", PARTITIONS)
        it.table.write(partition, {b"gen-2": b"\x00"}, 1_000)
    async with road(tmp_path) as it:
        assert known_of(it, "gen-2") is None and known_of(it, "gen-1") is not None
        await it.post(event(id="gen-1"), event(id="gen-2"))
        await it.quiet()
        assert await it.fates() == {"counted": 2, "duplicate": 1}


async def test_a_table_of_another_log_is_not_used(tmp_path: Path) -> None:
    """When the log was recreated, the table that belonged to the old one is thrown away."""
    async with road(tmp_path) as it:
        await it.post(event(id="gen-1"))
        await it.quiet()
    shutil.rmtree(tmp_path / "log")
    async with road(tmp_path) as it:
        assert known_of(it, "gen-1") is None


async def test_a_record_placed_by_another_partitioner_counts_once(tmp_path: Path) -> None:
    """Input row 51: what librdkafka's crc32 misplaced is rerouted, and its twin in place is a duplicate."""
    ids = [f"gen-{n}" for n in range(40)]
    wrong = [id for id in ids if crc32(id.encode()) % PARTITIONS != partition_of(id.encode(), PARTITIONS)]
    async with road(tmp_path) as it:
        for id in ids:
            await it.post(event(id=id), partition=crc32(id.encode()) % PARTITIONS)
        await it.post(*(event(id=id) for id in ids))
        await it.quiet()
        fates = await it.fates()
        assert len(wrong) > 10
        assert fates == {"counted": 40, "duplicate": 40, "rerouted": 2 * len(wrong)}


async def test_a_poison_record_is_quarantined_once_and_the_partition_goes_on(tmp_path: Path) -> None:
    """Fault row 28: bytes that nobody can read are kept aside, and the next record counts."""
    async with road(tmp_path) as it:
        for n in range(PARTITIONS):
            poison = Message(topics.GENERATIONS, n, None, b"\xff\x00\xfe" * 1000, (("schema", b"\xff"),))
            await it.log.append([poison])
        await it.post(*(event(id=f"gen-{n}") for n in range(20)))
        await it.quiet()
        assert await it.fates() == {"quarantined": PARTITIONS, "counted": 20}
        [kept] = await it.log.read(topics.REJECTED, 0, 0, 10)
        assert kept.value == b"\xff\x00\xfe" * 1000


@pytest.mark.parametrize(
    ("value", "headers", "reason"),
    [
        (event(id="gen-1"), (("schema", b"99"),), "schema"),
        (event(id="another"), (), "key"),
        (None, (), "null"),
        (event(id="gen-1"), (("x", b"y" * 1_000_000),), "headers"),
    ],
)
async def test_what_a_producer_on_the_log_gets_wrong_is_quarantined(
    tmp_path: Path, value: bytes | None, headers: Any, reason: str
) -> None:
    """Input rows 46, 47: its bytes are kept, and the newest record of the key is its winner again."""
    async with road(tmp_path) as it:
        await it.post(event(id="gen-1", cost="0.01"))
        await it.quiet()
        home = partition_of(b"gen-1", PARTITIONS)
        await it.log.append([Message(topics.GENERATIONS, home, b"gen-1", value, headers)])
        await it.quiet()
        assert await it.fates() == {"counted": 1, "quarantined": 1, "republished": 1}
        [kept] = await it.log.read(topics.REJECTED, home, 0, 10)
        assert kept.value == value and ("reason", reason.encode()) in kept.headers
        newest = await it.log.latest(topics.GENERATIONS, home, b"gen-1")
        assert newest is not None and generation.decode(newest.value or b"").cost_nano == 10_000_000


async def test_when_rejected_records_cant_be_written_it_stops_rather_than_drops(tmp_path: Path) -> None:
    """Fault row 29: the ledger ends at the record, and decides it after a restart."""
    async with road(tmp_path) as it:
        commit, failed = it.log.commit, []

        async def refuse(key: Any, epoch: int, messages: Any, offset: int) -> Any:
            if any(message.topic == topics.REJECTED for message in messages):
                failed.append(offset)
                raise LogError("the topic generations.rejected can't be written")
            return await commit(key, epoch, messages, offset)

        it.log.commit = refuse  # type: ignore[method-assign]
        home = partition_of(b"bad", PARTITIONS)
        await it.log.append([Message(topics.GENERATIONS, home, b"bad", b"{")])
        await it.quiet()
        assert failed and isinstance(it.app.crash_reason, LogError)
        assert await it.fates() == {}
    async with road(tmp_path) as it:
        await it.quiet()
        assert sum((await it.fates()).values()) == 1


async def test_one_id_delivered_ten_times_counts_once(tmp_path: Path) -> None:
    """Fault row 26: webhook and sync, with the same and with other figures, in any order."""
    versions = [event(id="gen-1", cost="0.01")] * 5
    versions += [event(id="gen-1", cost="0.02", authority="reconciled")] * 3
    versions += [event(id="gen-1"), event(id="gen-1", cost="0.005", authority="estimate")]
    for seed in range(5):
        random.Random(seed).shuffle(versions)
        async with road(tmp_path / str(seed)) as it:
            for value in versions:
                await it.post(value)
            await it.quiet()
            requests = cost = 0
            for one in await it.facts():
                for sign, entry in fact.effects(one):
                    requests += sign * entry.requests
                    cost += sign * (entry.cost_nano or 0)
            assert (requests, cost) == (1, 20_000_000)


async def test_a_clock_that_jumps_moves_no_dated_generation(tmp_path: Path) -> None:
    """Fault row 25: one hour back, one day ahead: days are the events' own, and twins stay twins."""
    jumped = {"ms": 0}

    def clock() -> int:
        return now_ms() + jumped["ms"]

    value = event(id="gen-1", cost="0.01")
    async with road(tmp_path, clock=clock) as it:
        await it.post(value)
        await it.quiet()
        for jumped["ms"] in (-3_600_000, 86_400_000, 0):
            await it.post(value)
            await it.quiet()
        times = [record.time_ms for record in await it.log.read(topics.GENERATIONS, 1, 0, 10)]
        assert times[1] < times[0] < times[2], "the clock did jump"
        days = {entry.day for one in await it.facts() for _, entry in fact.effects(one)}
        assert days == {"2026-11-20"}
        assert (await it.fates())["counted"] == 1
