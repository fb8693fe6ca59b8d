"""What compaction leaves of the ledger's log: the same table, the same totals, and no forgotten id."""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from genledger.roles.compacting import DAY_MS, HOUR_MS, Compacting, is_worth, run_ended_ms
from genledger.roles.sizing import Sizing, table_sizes
from genledger.watch import Watch
from streams import fact, topics
from streams.errors import LogDamaged
from streams.log.interface import Message, Record, TopicSize
from streams.log.sizes import topic_sizes
from streams.log.sqlite.log import SqliteLog
from streams.retention import Stand
from streams.seen.shelf import RocksShelf, open_shelf
from tests.ledger.test_ledger_log import PARTITIONS, Road, known_of, road
from tests.retention.test_sweeper import DAYS, House, house, names

SPECS = topics.topic_table(PARTITIONS)
OLD, YOUNG = 60, 40


async def a_night(it: House) -> None:
    """Old ids and young ones, some of several versions; a run forgets the old ones."""
    await it.post(*names("old", OLD), ago=DAYS + 1)
    await it.post(*names("young", YOUNG), ago=1)
    await it.post(*names("young", YOUNG), ago=1, cost="0.02")
    await it.post(*names("young", YOUNG // 2), ago=1, cost="0.03")
    await it.begin()
    await it.sweep()


async def compact(it: Road) -> None:
    """As the service does it: twice, so that the nulls of the first pass go too."""
    for _ in range(2):
        assert await it.log.compact(topics.SEEN_CHANGELOG, await it.table.flush()) >= 0
        await it.log.compact(topics.GENERATIONS)


async def whole(log: SqliteLog, topic: str) -> list[Record]:
    found: list[Record] = []
    for partition in range(PARTITIONS):
        at = log.start_offset(topic, partition)
        while records := await log.read(topic, partition, at, 10_000):
            found += records
            at = records[-1].offset + 1
    return found


def entries(it: Road) -> Mapping[bytes, bytes]:
    return {key: value for n in range(PARTITIONS) for key, value in it.table.scan(n, None, 10_000)}


async def test_the_table_is_read_back_whole_from_a_compacted_changelog(tmp_path: Path) -> None:
    """One record an id is left, and none of a forgotten one; the table made of them is the same."""
    async with house(tmp_path) as it:
        await a_night(it)
        before = len(await whole(it.road.log, topics.SEEN_CHANGELOG))
        await compact(it.road)
        left = await whole(it.road.log, topics.SEEN_CHANGELOG)
        table = entries(it.road)
    assert before >= 3 * YOUNG + OLD
    lasts = PARTITIONS  # of each partition the last record stays, whatever it is
    assert len(left) <= len(table) + lasts
    shutil.rmtree(tmp_path / "tables")
    async with road(tmp_path) as it:
        assert entries(it) == table
        assert known_of(it, "old-1") is None


async def test_a_table_that_missed_nulls_is_read_back_whole(tmp_path: Path) -> None:
    """A table put back from before the nulls that compaction took revives no forgotten id."""
    async with house(tmp_path) as it:
        await it.post(*names("old", OLD), ago=DAYS + 1)
    shutil.copytree(tmp_path / "tables", tmp_path / "tables-of-then")
    async with house(tmp_path) as it:
        await a_night(it)
        await it.post(*names("later", 20), ago=1)  # else the last record of a partition may be a null
        await compact(it.road)
        table = entries(it.road)
    shutil.rmtree(tmp_path / "tables")
    shutil.move(tmp_path / "tables-of-then", tmp_path / "tables")
    async with house(tmp_path) as it:
        assert entries(it.road) == table
        await it.post("old-1", ago=DAYS + 1)
        assert (await it.road.fates())["expired"] == 1


async def test_a_table_that_missed_no_null_goes_on_from_where_it_stood(tmp_path: Path) -> None:
    """A kill after the flush costs only what came since: the rest of the table is on the disk."""
    async with house(tmp_path) as it:
        await a_night(it)
        await compact(it.road)
        await it.post("late", ago=1)
        shutil.copytree(tmp_path / "tables", tmp_path / "killed")  # as a kill would leave it
    stood = 0
    for partition in range(PARTITIONS):
        path = tmp_path / "killed" / "seen" / str(partition)
        (path / "LOCK").unlink()
        shelf = RocksShelf(path, it.road.log.identity)
        flushed = shelf.next_offset
        shelf.close()
        end = it.road.log._stores["ledger"].partitions[topics.SEEN_CHANGELOG, partition]
        assert end.compacted_below <= flushed <= end.next
        again = open_shelf(path, it.road.log.identity, end.next, end.compacted_below)
        stood += again.next_offset == flushed > 0
        again.close()
    assert stood == PARTITIONS


async def test_a_shelf_behind_the_nulls_is_emptied_and_a_new_one_is_not(tmp_path: Path) -> None:
    """What a shelf holds is believed only from where every null still stands."""
    for below, stands in ((5, True), (6, False)):
        shelf = open_shelf(tmp_path / str(below), "log", 10)
        shelf.write({b"id": b"known"}, 5)
        shelf.close()
        again = open_shelf(tmp_path / str(below), "log", 10, below)
        assert (again.get_many([b"id"]) == [b"known"], again.next_offset == 5) == (stands, stands)
        again.close()


async def totals(it: Road) -> Counter[tuple[str, str, str]]:
    found: Counter[tuple[str, str, str]] = Counter()
    for one in await it.facts():
        for sign, entry in fact.effects(one):
            found[entry.organization, entry.day, "requests"] += sign * entry.requests
            found[entry.organization, entry.day, "cost"] += sign * (entry.cost_nano or 0)
    return +found


async def test_a_rebuild_from_compacted_generations_equals(tmp_path: Path) -> None:
    """Decided anew from what compaction left, the days after the horizon have the same totals."""
    async with house(tmp_path / "live") as it:
        await a_night(it)
        records = await whole(it.road.log, topics.GENERATIONS)
        await compact(it.road)
        left = await whole(it.road.log, topics.GENERATIONS)
        live, clock = await totals(it.road), it.clock
    assert len(left) < len(records) / 2
    async with road(tmp_path / "again", clock=clock) as it:
        await it.log.append(
            [Message(topics.GENERATIONS, one.partition, one.key, one.value, one.headers) for one in left]
        )
        await it.quiet()
        again = await totals(it)
    days = {day for _, day, _ in again}
    assert len(days) == 1
    assert again == {place: figure for place, figure in live.items() if place[1] in days}
    assert {figure for (_, _, what), figure in again.items() if what == "requests"} == {YOUNG}


class Service:
    """What `serve` has around compaction."""

    def __init__(self, it: House) -> None:
        self.now_ms = it.clock() + HOUR_MS
        self.stands: Sequence[Stand] = it.sweeper.stands()
        self.flushes: Any = it.road.table.flush
        self.it = Compacting(it.road.log, SPECS, lambda: self.stands, self.flush, lambda: self.now_ms)

    async def flush(self) -> Mapping[int, int] | None:
        flushed: Mapping[int, int] | None = await self.flushes()
        return flushed


async def test_compaction_follows_the_end_of_a_run(tmp_path: Path) -> None:
    """Nothing goes while a run is under way; when it has ended everywhere its ids leave, once."""
    async with house(tmp_path) as it:
        await it.post(*names("old", OLD), ago=DAYS + 1)
        await it.begin()
        service = Service(it)
        assert run_ended_ms(service.stands, service.now_ms) is None
        assert await service.it.look() == 0
        await it.sweep()
        service.stands = it.sweeper.stands()
        it.clock.day += 1
        assert await service.it.look() >= 2 * OLD  # of `generations` and of the changelog
        assert await service.it.look() == 0
        sizes = await topic_sizes(it.road.log, SPECS)
        assert sizes[topics.GENERATIONS].compacted_ms == it.clock()
        assert sizes[topics.GENERATIONS].records == len(await whole(it.road.log, topics.GENERATIONS))
        assert sizes[topics.USAGE].records == len(await whole(it.road.log, topics.USAGE))


def test_a_run_that_does_not_end_holds_compaction_back_for_a_day_only() -> None:
    """CLEANUP_ENABLED=false in the midst of a run must not let the log grow for ever."""
    stands = [Stand(0, "r", "ended", started_ms=5), Stand(1, "r", "started", started_ms=6)]
    assert run_ended_ms(stands, DAY_MS + 4) is None
    assert run_ended_ms(stands, DAY_MS + 5) == 0
    much = TopicSize(90_000, appended=90_000)
    assert is_worth(much, 0, first_ms=5, now_ms=DAY_MS + 5)


async def test_a_clock_that_goes_back_does_not_compact_again_and_again(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """A run that began later than it is now is followed once, not at each look until the clock is there."""
    passes: list[str] = []
    async with house(tmp_path) as it:
        await a_night(it)
        service = Service(it)
        it.clock.day -= 1
        service.now_ms = it.clock()
        compact = it.road.log.compact

        async def noted(topic: str, below: Mapping[int, int] | None = None) -> int:
            passes.append(topic)
            return await compact(topic, below)

        monkeypatch.setattr(it.road.log, "compact", noted)
        for _ in range(3):
            await service.it.look()
    assert passes.count(topics.GENERATIONS) == passes.count(topics.SEEN_CHANGELOG) == 1


def test_a_pass_that_a_clock_ahead_dates_in_the_future_keeps_nobody_from_the_next() -> None:
    """Neither what is much nor the end of a run waits until that day."""
    ahead = TopicSize(90_000, appended=90_000, compacted_ms=900 * DAY_MS)
    assert is_worth(ahead, 0, first_ms=5, now_ms=2 * DAY_MS)
    assert is_worth(ahead, DAY_MS, first_ms=5, now_ms=DAY_MS + 1)


async def test_the_changelog_waits_for_its_table(tmp_path: Path) -> None:
    """While a table is read back its changelog is left as it is, and compacted at a later look."""
    async with house(tmp_path) as it:
        await a_night(it)
        service = Service(it)
        flush, service.flushes = service.flushes, no_flush
        it.clock.day += 1
        before = await whole(it.road.log, topics.SEEN_CHANGELOG)
        await service.it.look()
        assert await whole(it.road.log, topics.SEEN_CHANGELOG) == before
        service.flushes = flush
        assert await service.it.look() > 0
        assert len(await whole(it.road.log, topics.SEEN_CHANGELOG)) < len(before)


async def no_flush() -> None:
    return None


async def test_a_compaction_that_fails_is_an_alarm_and_tried_again(tmp_path: Path, monkeypatch: Any) -> None:
    """The road goes on beside it; an hour later it works, and the alarm is over."""
    async with house(tmp_path) as it:
        await a_night(it)
        service = Service(it)
        it.clock.day += 1

        async def damaged(*_: object) -> int:
            raise LogDamaged("intake.db: generations/0 offset 17")

        with monkeypatch.context() as patched:
            patched.setattr(it.road.log, "compact", damaged)
            assert await service.it.look() == 0
        assert "offset 17" in service.it.alarm
        assert await service.it.look() == 0
        await it.post("new", ago=1)
        service.now_ms += HOUR_MS
        assert await service.it.look() > 0
        assert service.it.alarm == ""


async def test_rejected_bytes_leave_after_their_time(tmp_path: Path) -> None:
    """What could not be taken is kept for 30 days, and looked through once an hour."""
    async with house(tmp_path) as it:
        await it.road.log.append([Message(topics.GENERATIONS, 0, b"bad-%d" % n, b"{") for n in range(700)])
        await it.road.quiet()
        service = Service(it)
        assert await service.it.look() == 0
        it.clock.day += 31
        service.now_ms = it.clock()
        assert await service.it.look() == 700 - PARTITIONS  # the last record of each stays
        assert b"bad-699" in {one.key for one in await whole(it.road.log, topics.REJECTED)}


async def test_sizes_are_told(tmp_path: Path, path: Path) -> None:
    """Topics, ids and tables have a size in the status, about as large as they are."""
    watch = Watch(10)
    async with house(tmp_path) as it:
        await a_night(it)
        sizing = Sizing()
        sizing.topics = lambda: topic_sizes(it.road.log, SPECS)
        sizing.state = it.road.table.sizes
        sizing.tables = lambda: table_sizes(path)
        watch.sizes = sizing.told
        assert watch.detail()["sizes"] is None
        await sizing.look()
        told = watch.detail()["sizes"]
        events = await whole(it.road.log, topics.GENERATIONS)
        assert told["topics"][topics.GENERATIONS]["records"] == len(events)
        exact_bytes = sum(len(one.key or b"") + len(one.value or b"") for one in events)
        assert exact_bytes < told["topics"][topics.GENERATIONS]["bytes"] < 2 * exact_bytes
        assert told["state"]["ids"] > 0
        assert told["state"]["bytes"] > 0
    assert sum(size["bytes"] for size in told["tables"].values()) == path.stat().st_size
    assert told["tables"]["processed_generations"]["bytes"] > 0


@pytest.mark.parametrize("store", ["memory", "rocksdb"])
async def test_either_table_says_how_large_it_is(tmp_path: Path, store: str) -> None:
    """Ids are counted about right, on the disk as in memory."""
    async with house(tmp_path, table_store=store) as it:
        await it.post(*names("young", YOUNG), ago=1)
        ids, size_bytes = it.road.table.sizes()
        assert YOUNG <= ids <= YOUNG + 4 * PARTITIONS
        assert size_bytes > YOUNG * 50
        assert set(await it.road.table.flush()) == set(range(PARTITIONS))
