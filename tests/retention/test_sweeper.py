"""The sweeper on a real log and a real table: what goes, what stays, and what it may take of the road."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from genledger.roles.ledger import LedgerPart
from genledger.roles.sweeps import Sweeps, SweepsHere
from genledger.watch import Watch
from streams import fact, records, retention, sweeper, topics
from streams.directory import Directory
from streams.errors import LogError, LogFull, LogUnavailable
from streams.fact import Fact
from streams.generation import Generation
from streams.known import Balance, Held, Horizon, Known, Terms
from streams.log.interface import Message
from streams.log.partition import partition_of
from streams.log.sqlite.log import open_log
from streams.settings import load
from streams.sweeper import Count, Sweeper
from streams.times import nanoseconds_of, text_of
from streams.worker import ledger_worker
from tests.ledger.sim import event
from tests.ledger.test_ledger_log import PARTITIONS, Road, known_of, road

DAY_NS = 86_400 * 10**9
TODAY_NS = nanoseconds_of("2026-11-20T00:00:00Z")
DAYS = 90


class Clock:
    """The log's time, a test's to set."""

    def __init__(self) -> None:
        self.day = 0

    def __call__(self) -> int:
        return (TODAY_NS + self.day * DAY_NS) // 1_000_000 + 43_200_000


class House:
    """A road, its sweeper, and the clock of its log."""

    def __init__(self, it: Road, clock: Clock, log: Any = None, share: float = 1.0) -> None:
        self.road, self.clock = it, clock
        self.sweeper = Sweeper(it.ledger, it.table, log or it.log, share)
        self.runs = 0

    async def post(self, *ids: str, ago: int, **fields: Any) -> None:
        """Events of so many days before the log's day."""
        at = text_of(TODAY_NS + (self.clock.day - ago) * DAY_NS + 36_000 * 10**9)
        given = {"cost": "0.01", "total_tokens": 10, "created_at": at} | fields
        await self.road.post(*(event(id=id, **given) for id in ids))
        await self.road.quiet()

    async def begin(self, days: int = DAYS) -> Horizon:
        """A run begins."""
        self.runs += 1
        newest_ms = await retention.newest_ms(self.road.log)
        run = retention.plan(newest_ms, days, PARTITIONS, f"run-{self.runs}")
        await self.road.log.append(retention.start_messages(run))
        await self.road.quiet()
        return run

    async def sweep(self) -> None:
        """Every partition, once."""
        for partition in range(PARTITIONS):
            await self.sweeper.sweep(partition)
        await self.road.quiet()

    def phases(self) -> set[tuple[str, str]]:
        """Run and phase, over all partitions."""
        return {(stand.run, stand.phase) for stand in self.sweeper.stands()}

    async def sweeps(self) -> Counter[tuple[str, str]]:
        """How many facts tell of each run's phases."""
        return Counter((one.run, one.sweep.phase) for one in await self.road.facts() if one.sweep)

    def ids(self) -> set[str]:
        """The ids that the table has."""
        found: set[str] = set()
        for partition in range(PARTITIONS):
            after = None
            while chunk := self.road.table.scan(partition, after, 7):
                after = chunk[-1][0]
                found |= {key.decode() for key, _ in chunk}
        return {id for id in found if not id.startswith("horizon-")}

    async def totals(self) -> Counter[tuple[str, str, str]]:
        """What counts, by organisation, day and figure."""
        found: Counter[tuple[str, str, str]] = Counter()
        for one in await self.road.facts():
            for sign, entry in fact.effects(one):
                place = entry.organization, entry.day
                found[*place, "requests"] += sign * entry.requests
                found[*place, "tokens"] += sign * entry.total_tokens
                found[*place, "cost"] += sign * (entry.cost_nano or 0)
        return +found


@asynccontextmanager
async def house(
    data: Path, share: float = 1.0, wrapped: Any = None, **overrides: Any
) -> AsyncIterator[House]:
    clock = Clock()
    async with road(data, clock=clock, **overrides) as it:
        yield House(it, clock, wrapped and wrapped(it), share)


def names(kind: str, count: int) -> Sequence[str]:
    return [f"{kind}-{n}" for n in range(count)]


class Between:
    """A log with something between it and the sweeper."""

    def __init__(self, it: Road) -> None:
        self.it = it
        self.batches: list[Sequence[Message]] = []
        self.before: Callable[[Sequence[Message]], Any] = lambda _: None

    async def append(self, messages: Sequence[Message]) -> Sequence[int]:
        done = self.before(messages)
        if done is not None:
            await done
        self.batches.append(messages)
        return await self.it.log.append(messages)


def horizons(batches: Sequence[Sequence[Message]]) -> Sequence[Message]:
    return [each for batch in batches for each in batch if each.key and each.key.startswith(b"horizon-")]


@pytest.mark.parametrize("store", ["rocksdb", "memory"])
async def test_old_ids_go_young_ones_stay_and_no_total_moves(tmp_path: Path, store: str) -> None:
    """Ids with nothing as late as the cutoff leave the table, with one fact each; the totals stay."""
    async with house(tmp_path, table_store=store) as it:
        old, young = names("old", 300), names("young", 300)
        await it.post(*old, ago=91)
        midnight = text_of(TODAY_NS - DAYS * DAY_NS)
        await it.post(*young, ago=DAYS, created_at=midnight)  # the cutoff itself: not before it
        before = await it.totals()
        await it.begin()
        await it.sweep()
        assert it.ids() == set(young)
        assert it.phases() == {("run-1", "ended")}
        forgotten = [one for one in await it.road.facts() if one.fate == "forgotten"]
        assert sorted(one.id for one in forgotten) == sorted(old)
        assert all(one.minus and one.run == "run-1" for one in forgotten)
        assert await it.sweeps() == {("run-1", "started"): PARTITIONS, ("run-1", "ended"): PARTITIONS}
        assert await it.totals() == before
        stands = it.sweeper.stands()
        assert sum(stand.published for stand in stands) == 300
        assert sum(stand.scanned for stand in stands) == 600 + PARTITIONS

        await it.post(*old, ago=91)
        await it.post(*young, ago=DAYS, created_at=midnight)
        fates = await it.road.fates()
        assert (fates["expired"], fates["duplicate"]) == (300, 300)
        assert await it.totals() == before and it.ids() == set(young)


async def test_what_counts_nothing_yet_goes_too_and_a_balance_never(tmp_path: Path) -> None:
    """A held id is ended like any other, with nothing to tell of; opening balances have no age."""
    async with house(tmp_path) as it:
        at_ns = TODAY_NS - 100 * DAY_NS
        winner = Generation("held-1", "acme", "m", created_ns=at_ns)
        held = Known(winner, Terms("1", "UTC", "2026-08-12", ""), None, at_ns)
        body = b'{"balance":[2,"day","acme","2020-01-01","","","",3,0,0,0,9,100,120]}'
        kind = ((records.KIND, records.OPENING),)
        place = partition_of(b"balance-1", PARTITIONS)
        await it.road.log.append(
            [
                Message(topics.GENERATIONS, place, b"balance-1", body, kind),
                records.winner_message(held, partition_of(b"held-1", PARTITIONS), held=True),
            ]
        )
        await it.road.quiet()
        assert isinstance(known_of(it.road, "held-1"), Held)
        assert isinstance(known_of(it.road, "balance-1"), Balance)
        assert await it.sweeper.count((await it.begin()).cutoff_ns) == {}
        await it.sweep()
        assert it.ids() == {"balance-1"} and it.phases() == {("run-1", "ended")}
        [gone] = [one for one in await it.road.facts() if one.fate == "forgotten"]
        assert gone.minus is None and gone.id == "held-1"


async def test_an_id_that_moves_past_the_cutoff_while_its_tombstone_is_on_the_way_stays(
    tmp_path: Path,
) -> None:
    """What is known when the tombstone is decided counts, not what the sweep saw: superseded, and kept."""
    between: list[Between] = []

    def wrapped(it: Road) -> Between:
        between.append(Between(it))
        return between[0]

    async with house(tmp_path, wrapped=wrapped) as it:
        await it.post("gen-1", "gen-2", ago=100)
        amended = event(
            id="gen-1", cost="0.02", revision=1, created_at=text_of(TODAY_NS - 5 * DAY_NS), total_tokens=10
        )

        def before(messages: Sequence[Message]) -> Any:
            return it.road.post(amended) if messages[0].key == b"gen-1" else None

        between[0].before = before
        await it.begin()
        await it.sweep()
        assert it.ids() == {"gen-1"}
        fates = await it.road.fates()
        assert (fates["amended"], fates["superseded"], fates["forgotten"]) == (1, 1, 1)
        assert it.phases() == {("run-1", "ended")}
        place = partition_of(b"gen-1", PARTITIONS)
        newest = await it.road.log.latest(topics.GENERATIONS, place, b"gen-1")
        assert newest is not None and newest.value is not None


@pytest.mark.parametrize("store", ["rocksdb", "memory"])
async def test_whoever_has_the_partition_after_a_kill_goes_on(tmp_path: Path, store: str) -> None:
    """Ended in the middle, the process gone: the next one finds the run in its table, and what is left."""
    between: list[Between] = []

    def wrapped(it: Road) -> Between:
        between.append(Between(it))
        return between[0]

    old = names("old", 900)
    async with house(tmp_path, wrapped=wrapped, table_store=store) as it:
        await it.post(*old, ago=200)
        await it.post("young", ago=1)
        before = await it.totals()

        def fail(_: Sequence[Message]) -> None:
            if len(between[0].batches) == 2:
                raise asyncio.CancelledError

        between[0].before = fail
        await it.begin()
        with pytest.raises(asyncio.CancelledError):
            await it.sweep()
        assert 0 < (await it.road.fates())["forgotten"] < 900
    async with house(tmp_path, table_store=store) as it:
        assert ("run-1", "started") in it.phases()
        await it.sweep()
        assert it.ids() == {"young"} and it.phases() == {("run-1", "ended")}
        assert await it.totals() == before
        minus = [one.id for one in await it.road.facts() if one.fate == "forgotten" and one.minus]
        assert sorted(minus) == sorted(old)
        assert (await it.sweeps())["run-1", "ended"] == PARTITIONS


async def test_the_newer_of_two_runs_is_the_one_that_ends(tmp_path: Path) -> None:
    """A second run begun while one sweeps: the first stops where it is, and never ends."""
    between: list[Between] = []

    def wrapped(it: Road) -> Between:
        between.append(Between(it))
        return between[0]

    async with house(tmp_path, wrapped=wrapped) as it:
        await it.post(*names("old", 100), ago=100)
        await it.post(*names("older", 100), ago=40)
        first = await it.begin()

        async def overtake() -> None:
            between[0].before = lambda _: None
            second = await it.begin(days=30)
            assert second.cutoff_ns > first.cutoff_ns

        between[0].before = lambda _: overtake()
        task = asyncio.create_task(it.sweeper.go_on())
        async with asyncio.timeout(10):
            while it.phases() != {("run-2", "ended")}:
                await asyncio.sleep(0.01)
        task.cancel()
        await it.road.quiet()
        assert it.ids() == set()
        ended = [dict(message.headers)["run"] for message in horizons(between[0].batches)]
        assert ended == [b"run-2"] * PARTITIONS
        assert await it.sweeps() == {
            ("run-1", "started"): PARTITIONS,
            ("run-2", "started"): PARTITIONS,
            ("run-2", "ended"): PARTITIONS,
        }


async def test_one_run_after_another_forgets_what_has_grown_old_since(tmp_path: Path) -> None:
    """The next night's run finds what is old by then, and nothing twice; more days bring nothing back."""
    async with house(tmp_path) as it:
        await it.post("gen-1", ago=90)
        await it.post("gen-2", ago=89)
        await it.begin()
        await it.sweep()
        assert it.ids() == {"gen-1", "gen-2"}
        it.clock.day += 1
        await it.post("gen-3", ago=0)
        await it.begin()
        await it.sweep()
        assert it.ids() == {"gen-2", "gen-3"}
        await it.begin(days=365)
        await it.sweep()
        await it.post("gen-1", ago=91)  # remembered for a year from now on, and its twin is gone already
        assert it.ids() == {"gen-2", "gen-3"} and (await it.road.fates())["expired"] == 1
        assert it.phases() == {("run-3", "ended")} and (await it.sweeps())["run-2", "ended"] == PARTITIONS


async def test_what_can_not_be_read_fails_the_run_and_the_next_one_goes_on(tmp_path: Path) -> None:
    """A value of no known layout: the run has failed there, and says why; the ledger is not asked of it."""
    async with house(tmp_path) as it:
        await it.post(*names("old", 50), ago=100)
        shelf = it.road.table._seen.shelf(2)
        shelf.write({b"broken": b"\x92\x09\x01"}, shelf.next_offset)
        await it.begin()
        await it.sweep()
        assert it.phases() == {("run-1", "ended"), ("run-1", "failed")}
        [failed] = [one for one in await it.road.facts() if one.sweep and one.sweep.phase == "failed"]
        assert failed.partition == 2 and failed.sweep is not None
        assert "broken can't be read" in failed.sweep.error and "layout 9" in failed.sweep.error
        shelf.write({b"broken": None}, shelf.next_offset)
        await it.begin()
        await it.sweep()
        assert it.phases() == {("run-2", "ended")} and it.ids() == set()
        assert it.road.app.crash_reason is None


async def test_a_log_that_is_full_or_away_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run does not fail for it: the same batch is appended again when there is room."""
    monkeypatch.setattr(sweeper, "RETRY_S", 0.001)
    between: list[Between] = []
    trouble: list[Exception] = [LogFull("full"), LogUnavailable("away"), LogFull("disk", disk=True)] * 2

    def wrapped(it: Road) -> Between:
        between.append(Between(it))
        return between[0]

    def before(_: Sequence[Message]) -> None:
        if trouble:
            raise trouble.pop()

    async with house(tmp_path, wrapped=wrapped) as it:
        between[0].before = before
        await it.post(*names("old", 50), ago=100)
        await it.begin()
        await it.sweep()
        assert it.phases() == {("run-1", "ended")} and it.ids() == set() and not trouble


async def test_a_cluster_that_refuses_even_the_failure_is_left_in_peace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process goes on, and so does the next attempt; the run has neither ended nor failed meanwhile."""
    monkeypatch.setattr(sweeper, "RETRY_S_MAX", 0.01)
    monkeypatch.setattr(sweeper, "POLL_S", 0.01)
    between: list[Between] = []
    refused = 0

    def wrapped(it: Road) -> Between:
        between.append(Between(it))
        return between[0]

    def before(_: Sequence[Message]) -> None:
        nonlocal refused
        refused += 1
        if refused <= 20:
            raise LogError("the cluster refuses a message")

    async with house(tmp_path, wrapped=wrapped) as it:
        between[0].before = before
        await it.post("old", ago=100)
        await it.begin()
        task = asyncio.create_task(it.sweeper.go_on())
        async with asyncio.timeout(10):
            while it.phases() != {("run-1", "ended")} and not task.done():
                await asyncio.sleep(0.01)
        task.cancel()
        assert refused > 20 and it.ids() == set()


class Owner:
    """The ledger, as it is when a partition is taken away."""

    def __init__(self, it: Road) -> None:
        self.it = it
        self.gone: set[int] = set()

    def partitions(self) -> Sequence[int]:
        return [n for n in self.it.ledger.partitions() if n not in self.gone]

    def next_offset(self, partition: int) -> int:
        return 0 if partition in self.gone else self.it.ledger.next_offset(partition)


@pytest.mark.parametrize("when", ["before the append", "after it"])
async def test_a_partition_that_is_taken_away_is_let_be(tmp_path: Path, when: str) -> None:
    """The sweep stops at once: neither another batch nor an end is appended by who is not the owner."""
    async with house(tmp_path) as it:
        await it.post(*names("old", 900), ago=100)
        await it.begin()
        between, owner = Between(it.road), Owner(it.road)

        def take_away(messages: Sequence[Message]) -> Any:
            owner.gone.add(messages[0].partition)
            if when == "before the append":
                raise LogUnavailable("the connection is gone, too")

        between.before = take_away
        swept: Any = between
        sweeping = Sweeper(owner, it.road.table, swept, 1.0)
        async with asyncio.timeout(5):
            for partition in range(PARTITIONS):
                await sweeping.sweep(partition)
        assert len(between.batches) == (0 if when == "before the append" else PARTITIONS)
        assert sweeping.stands() == [] and not horizons(between.batches)
        await it.sweep()  # who has them now
        assert it.ids() == set() and it.phases() == {("run-1", "ended")}


async def test_a_partition_that_is_being_read_back_is_neither_swept_nor_told_of(tmp_path: Path) -> None:
    """Half a table says nothing: it is left out until it is whole."""
    async with house(tmp_path) as it:
        await it.post(*names("old", 50), ago=100)
        run = await it.begin()
        it.road.table.recovering[1] = 0, 10
        shelf = it.road.table._seen._shelves.pop(2)  # taken over, and not open yet
        await it.sweep()
        assert {stand.partition for stand in it.sweeper.stands()} == {0, 3}
        for partition in (1, 2, 9):
            with pytest.raises(LogUnavailable):
                await it.sweeper.count(run.cutoff_ns, [partition])
        it.road.table._seen._shelves[2] = shelf
        del it.road.table.recovering[1]
        assert [stand.phase for stand in it.sweeper.stands()] == ["ended", "started", "started", "ended"]


async def test_the_ledger_under_faust_s_own_command_sweeps_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`faust -A streams.app worker` has the same sweeper, and it ends with the app."""
    async with house(tmp_path) as it:
        await it.post(*names("old", 50), ago=100)
        await it.begin()
    monkeypatch.setenv("GENLEDGER_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    app = ledger_worker()
    await app.start()
    async with asyncio.timeout(10):
        [table] = app.tables.values()
        keys = [records.horizon_key(n) for n in range(PARTITIONS)]
        while not app.tables.recovery.completed.is_set() or any(
            b"started" in (table.get_many(n, [key])[0] or b"started") for n, key in enumerate(keys)
        ):
            await asyncio.sleep(0.01)
    await app.stop()
    async with house(tmp_path) as it:
        assert it.ids() == set() and it.phases() == {("run-1", "ended")}


@pytest.mark.parametrize("enabled", [True, False])
async def test_the_service_s_ledger_sweeps_unless_that_is_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enabled: bool
) -> None:
    """CLEANUP_ENABLED=false: a run that has begun waits where it is; how it stands is told all the same."""
    monkeypatch.setattr(sweeper, "POLL_S", 0.01)
    async with house(tmp_path) as it:
        await it.post(*names("old", 50), ago=100)
        run = await it.begin()
    settings = load({}, None, data=str(tmp_path), cleanup_enabled=enabled, cleanup_share=1.0)
    log = await open_log(settings.broker, topics.topic_table(PARTITIONS))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(log.close)
        directory = Directory(log)
        await directory.refresh()
        part, looks = LedgerPart(log, settings, directory, Watch(60.0)), 0
        await part.start(stack)
        sweeps: Sweeps = SweepsHere(part)
        async with asyncio.timeout(10):
            while looks < 20:
                await asyncio.sleep(0.01)
                with suppress(LogUnavailable):
                    phases = {stand.phase for stand in await sweeps.stands()}
                    looks += 1 if phases == {"ended" if enabled else "started"} else 0
        assert await sweeps.count(run.cutoff_ns) == ({} if enabled else {"acme": Count(50, 500, 500_000_000)})


class Watched:
    """The table, and what is asked of it in one go."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self.limits: list[int] = []
        self.at: list[int] = []
        self.ticks = 0

    def scan(self, partition: int, after: bytes | None, limit: int) -> Any:
        self.limits.append(limit)
        self.at.append(self.ticks)
        return self._table.scan(partition, after, limit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)


async def test_the_loop_goes_round_between_any_two_chunks_and_a_batch_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody else has a turn after each chunk; never more than one batch waits for the ledger."""
    monkeypatch.setattr(sweeper, "CHUNK_IDS", 20)
    monkeypatch.setattr(sweeper, "BATCH_TOMBSTONES", 15)
    async with house(tmp_path) as it:
        await it.post(*names("old", 400), ago=100)
        await it.post(*names("young", 400), ago=1)
        await it.begin()
        table: Any = Watched(it.road.table)
        between: Any = Between(it.road)
        undecided = []

        def look(_: Sequence[Message]) -> None:
            end = {n: it.road.log.end_offset(topics.GENERATIONS, n) for n in range(PARTITIONS)}
            undecided.append(sum(end[n] - it.road.ledger.next_offset(n) for n in range(PARTITIONS)))

        between.before = look
        swept = Sweeper(it.road.ledger, table, between, 1.0)

        async def tick() -> None:
            while True:
                table.ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        for partition in range(PARTITIONS):
            await swept.sweep(partition)
        ticking.cancel()
        assert set(table.limits) == {20} and len(table.at) > 40
        assert len(set(table.at)) == len(table.at), "two chunks without a turn of the loop between"
        sizes = [len(batch) for batch in between.batches]
        assert max(sizes) == 15 and sum(sizes) == 400 + PARTITIONS
        assert set(undecided) == {0}
        assert it.ids() == set(names("young", 400))


async def test_a_sweep_rests_for_as_long_as_its_share_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a quarter of the time three times as long as each step; a wait for others counts as a second."""
    rests: list[float] = []

    async def sleep(delay_s: float) -> None:
        rests.append(delay_s)
        await asyncio.sleep(0)

    async with house(tmp_path) as it:
        await it.post(*names("young", 100), ago=1)
        swept = Sweeper(it.road.ledger, it.road.table, it.road.log, 0.25)
        monkeypatch.setattr(sweeper, "asyncio", SimpleNamespace(sleep=sleep))
        for step_s, rest_s in ((0.002, 0.006), (50.0, 3.0)):
            ticks = itertools.count(0.0, step_s)
            monkeypatch.setattr(sweeper, "clock", SimpleNamespace(monotonic_s=ticks.__next__))
            rests.clear()
            await swept.count(TODAY_NS)
            assert rests and rests == pytest.approx([rest_s] * len(rests))


async def test_a_dry_run_counts_by_organisation_what_a_run_then_forgets(tmp_path: Path) -> None:
    """Ids, tokens and money of each organisation, voids and unknown costs among them; nothing is changed."""
    async with house(tmp_path) as it:
        await it.post("a-1", "a-2", ago=100)
        await it.post("a-3", ago=100, cost=None)
        await it.post("b-1", "b-2", ago=100, organization="beta")
        await it.post("b-2", ago=100, organization="beta", void=True, cost=None)
        await it.post("a-4", "b-3", ago=80)
        run = retention.plan(await retention.newest_ms(it.road.log), DAYS, PARTITIONS, "dry")
        ends = [it.road.log.end_offset(topics.GENERATIONS, n) for n in range(PARTITIONS)]
        counted = await it.sweeper.count(run.cutoff_ns)
        assert counted == {"acme": Count(3, 30, 20_000_000), "beta": Count(2, 10, 10_000_000)}
        assert ends == [it.road.log.end_offset(topics.GENERATIONS, n) for n in range(PARTITIONS)]
        assert await it.sweeper.count(0) == {}

        await it.begin()
        await it.sweep()
        assert told(await it.road.facts()) == counted


def told(facts: Sequence[Fact]) -> dict[str, Count]:
    """What the facts say was forgotten."""
    found: dict[str, Count] = {}
    for one in facts:
        if one.fate == "forgotten" and one.minus is not None:
            worth = Count(1, one.minus.total_tokens, one.minus.cost_nano or 0)
            found[one.minus.organization] = found.get(one.minus.organization, Count()) + worth
    return found
