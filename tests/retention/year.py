"""Many days in minutes: a real log, ledger, table, views, sweeper and compaction, on a clock of the test's.

    async with opened(data, traffic) as year:
        await year.day(0, Night(days=90))
        await year.check()
        await year.prove()

Each delivery's fate is compared with the model's at the end of its day, and each run's ids; everything that
is kept anywhere when `check` is called.
"""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Literal

import msgspec

from genledger.roles.views import open_database, open_followers, path_of
from projections import schema
from projections.agents import Follower
from projections.digest import digest
from projections.rebuild import build
from projections.rebuild.plan import Plan, parts_of
from projections.rebuild.proof import prove
from streams import fact, known, money, records, retention, times, topics
from streams.agents import Ledger
from streams.app import ledger_app
from streams.directory import Directory, message_of
from streams.fact import Fact
from streams.known import Known
from streams.log.batches import Batch
from streams.log.interface import Message
from streams.log.partition import partition_of
from streams.log.sqlite.bounds import Bounds
from streams.log.sqlite.log import SqliteLog, open_log
from streams.organizations import Change, Organization
from streams.seen import SeenTable
from streams.settings import Settings, load
from streams.sweeper import Sweeper
from tests.model.events import Event
from tests.retention.deliveries import Told, Traffic
from tests.retention.model import Model, Rows, Run

PARTITIONS = 4
READ_RECORDS = 10_000
SCAN_IDS = 5_000
NIGHT_MS = 5 * 60_000
NOON_MS = 12 * 3_600_000
# Of what came too late, so many are forced in by an administrator: one in
FORCED = 10
# While a run goes on, so many of the ids that it forgets are told again.
TOLD_MEANWHILE = 5
SUMMARIES = ("client_daily_usage", "client_user_daily_usage", "client_model_daily_usage")
ROWS = {
    "client_daily_usage": "client_org_id, usage_date",
    "client_user_daily_usage": "client_org_id, usage_date, openrouter_user_id",
    "client_model_daily_usage": "client_org_id, usage_date, model_name",
}
_FIGURES = "total_requests, total_tokens, raw_cost_nano, markup_cost_nano, unpriced_requests"
_EITHER = frozenset(("duplicate", "expired"))
COMPACTED = (topics.GENERATIONS, topics.SEEN_CHANGELOG)

Place = tuple[int, int]


class Night(msgspec.Struct, frozen=True):
    """The runs of a day: the nightly one, and one by hand. `busy`: traffic goes on meanwhile.

    `totals`: whether the summaries' rows are looked at before and after, or what they add up to. In any
    case no fact of a run may move one.
    """

    days: int | None
    by_hand: int | None = None
    busy: bool = False
    totals: Literal["", "sums", "digests"] = ""


class Year:
    """The parts, driven day by day."""

    def __init__(self, settings: Settings, traffic: Traffic, log: SqliteLog) -> None:
        self.settings = settings
        self.traffic = traffic
        self.log = log
        self.model = Model(traffic.settings())
        self.now_ms = traffic.midnight_ms(-1)
        #: What became of the deliveries, and of what the service published itself.
        self.fates: Counter[str] = Counter()
        self.own: Counter[str] = Counter()
        self.ledger: Ledger
        self.table: SeenTable
        self.sweeper: Sweeper
        self.deciding: asyncio.Task[None]
        self.followers: Sequence[Follower] = ()
        self._expected: dict[Place, frozenset[str]] = {}
        self._read = [0] * PARTITIONS
        self._forgotten: dict[str, set[str]] = {}

    async def decide(self) -> None:
        """Decide whatever there is, until cancelled: what the ledger's agent does."""
        while True:
            for n in range(PARTITIONS):
                start = self.ledger.next_offset(n)
                if start < self.log.end_offset(topics.GENERATIONS, n):
                    found = await self.log.read(topics.GENERATIONS, n, start, self.settings.batch_records_max)
                    await self.ledger.take(Batch(topics.GENERATIONS, n, start, found))
            nexts = {(topics.GENERATIONS, n): self.ledger.next_offset(n) for n in range(PARTITIONS)}
            await self.log.wait(nexts, 1.0)

    async def quiet(self) -> None:
        """Until every record is decided, those that the service published too."""
        while any(
            self.ledger.next_offset(n) < self.log.end_offset(topics.GENERATIONS, n) for n in range(PARTITIONS)
        ):
            if self.deciding.done():
                await self.deciding
            await asyncio.sleep(0.0005)

    async def follow(self) -> None:
        """Bring the views to the end of the log."""
        for follower in self.followers:
            for topic in follower.topics:
                for n in range(self.log.partitions(topic)):
                    start = min(follower.next_offset(view, topic, n) for view in follower.views)
                    while start < self.log.end_offset(topic, n):
                        found = await self.log.read(topic, n, start, READ_RECORDS)
                        await follower.take(Batch(topic, n, start, found))
                        start = found[-1].offset + 1

    async def day(self, day: int, night: Night) -> None:
        """A day's traffic with its runs, and what became of it."""
        chunks = [(ms, list(group)) for ms, group in groupby(self.traffic.day(day), lambda one: one.time_ms)]
        midnight_ms = self.traffic.midnight_ms(day)
        runs = [(f"night-{day}", night.days, midnight_ms + NIGHT_MS)]
        runs += [(f"by-hand-{day}", night.by_hand, midnight_ms + NOON_MS)]
        for name, days, run_ms in runs:
            while chunks and chunks[0][0] < run_ms:
                await self._tell(day, *chunks.pop(0))
            if days is not None:
                await self._run(name, days, run_ms, night)
        for chunk in chunks:
            await self._tell(day, *chunk)
        await self.quiet()
        await self.follow()
        await self._look()

    async def _tell(self, day: int, time_ms: int, told: Sequence[Told]) -> None:
        self.now_ms = max(self.now_ms, time_ms)
        fates = []
        for one in told:
            fate = self.model.take(one.line, self.now_ms, forced=one.forced)
            if fate == "expired" and self.model.fates["expired"] % FORCED == 0:
                self.traffic.again(one, day + 1, forced=True)
            fates.append(frozenset((fate,)))
        await self._append(told, fates)

    async def _append(self, told: Sequence[Told], fates: Sequence[frozenset[str]]) -> None:
        messages = []
        for one in told:
            key = one.id.encode()
            headers = ((records.FORCE, b"1"),) if one.forced else ()
            messages.append(
                Message(topics.GENERATIONS, partition_of(key, PARTITIONS), key, one.line, headers)
            )
        offsets = await self.log.append(messages)
        for message, offset, fate in zip(messages, offsets, fates, strict=True):
            self._expected[message.partition, offset] = fate

    async def _run(self, name: str, days: int, time_ms: int, night: Night) -> None:
        """A run of the job, to its end: no total moves by it."""
        await self.quiet()
        before = await self._totals(night)
        self.now_ms = max(self.now_ms, time_ms)
        plan = retention.plan(await retention.newest_ms(self.log), days, PARTITIONS, name)
        oldest = [one.winner for one in islice(self.model.ids.values(), 50 * TOLD_MEANWHILE)]
        run = self.model.forget(name, days, self.now_ms)
        assert plan.cutoff_ns == run.cutoff_ns
        await self.log.append(retention.start_messages(plan))
        sweep = asyncio.create_task(self._sweep(name))
        if night.busy:
            again = [one for one in oldest if one.id in run.ids and one.created_ns is not None]
            lines = [Told(one.id, line_of(one), self.now_ms) for one in again[:TOLD_MEANWHILE]]
            await self._append(lines, [_EITHER] * len(lines))
        await sweep
        assert await self._totals(night) == before, f"{name} moved a total"

    async def _sweep(self, name: str) -> None:
        while any((stand.run, stand.phase) != (name, "started") for stand in self.sweeper.stands()):
            await asyncio.sleep(0.0005)
        for n in range(PARTITIONS):
            await self.sweeper.sweep(n)
        await self.quiet()
        assert {(stand.run, stand.phase) for stand in self.sweeper.stands()} == {(name, "ended")}

    async def _look(self) -> None:
        """What became of the deliveries, and who was forgotten: by the facts since the last look."""
        for n in range(PARTITIONS):
            while self._read[n] < self.log.end_offset(topics.USAGE, n):
                found = await self.log.read(topics.USAGE, n, self._read[n], READ_RECORDS)
                for record in found:
                    self._look_at(fact.decode(record.value or b"", record.headers))
                self._read[n] = found[-1].offset + 1
        assert not self._expected, f"{len(self._expected)} deliveries have no fact"
        wanted = {run.name: run.ids for run in self.model.runs if run.ids}
        assert self._forgotten == wanted
        self._forgotten.clear()
        for run in self.model.runs:
            run.ids = frozenset()

    def _look_at(self, told: Fact) -> None:
        expected = self._expected.pop((told.partition, told.offset), None)
        if expected is None:
            assert not fact.effects(told), f"{told} is the service's own, and moves a total"
            self.own[told.fate] += 1
        else:
            assert told.fate in expected, f"{told}: the model says {set(expected)}"
            self.fates[told.fate] += 1
        if told.fate == "forgotten" and told.minus is not None:
            self._forgotten.setdefault(told.run, set()).add(told.id)

    # What is kept.

    async def _totals(self, night: Night) -> object:
        """All rows of the summaries as a digest, or what they add up to."""
        if not night.totals:
            return None
        await self.follow()
        with self._views() as connection:
            if night.totals == "digests":
                return digest(connection, tables=SUMMARIES)
            sums = ", ".join(f"sum({name})" for name in _FIGURES.split(", "))
            return [
                connection.execute(f"SELECT count(*), max(updated_at), {sums} FROM {table}").fetchone()
                for table in SUMMARIES
            ]

    def known_ids(self) -> set[str]:
        """The ids that the ledger's table holds."""
        found = set()
        for n in range(PARTITIONS):
            after: bytes | None = None
            while rows := self.table.scan(n, after, SCAN_IDS):
                found |= {key.decode() for key, value in rows if isinstance(known.decode(value), Known)}
                after = rows[-1][0]
        return found

    async def check(self) -> None:
        """Totals, ids, audit and books are what the model says, to the nano-dollar."""
        await self.quiet()
        await self.follow()
        totals = self.model.totals()
        with self._views() as connection:
            for table, rows in zip(SUMMARIES, (totals.days, totals.users, totals.models), strict=True):
                assert rows_of(connection, table) == figures_of(rows), table
            ids = {row[0] for row in connection.execute("SELECT id FROM processed_generations")}
            assert ids == self.model.ids.keys()
            self._check_audit(connection)
            self._check_books(connection)
        assert self.known_ids() == self.model.ids.keys()

    def _check_audit(self, connection: sqlite3.Connection) -> None:
        query = """SELECT id, days_retained, records_before, records_deleted, records_remaining,
            old_tokens_removed, old_cost_removed_nano, success FROM processed_generation_cleanup_log"""
        found = {row[0]: row[1:] for row in connection.execute(query)}
        assert found == {run.name: audit_of(run) for run in self.model.runs}
        query = """SELECT run, client_org_id, records_deleted, tokens_removed, cost_removed_nano
            FROM cleanup_organizations"""
        organizations: dict[str, dict[str, tuple[int, int, int]]] = {}
        for name, organization, *worth in connection.execute(query):
            organizations.setdefault(name, {})[organization] = (worth[0], worth[1], worth[2])
        assert organizations == {run.name: run.organizations for run in self.model.runs if run.organizations}

    def _check_books(self, connection: sqlite3.Connection) -> None:
        rows = connection.execute('SELECT "partition", sum(records) FROM books GROUP BY 1')
        ends = {n: self.log.end_offset(topics.GENERATIONS, n) for n in range(PARTITIONS)}
        assert dict(rows.fetchall()) == ends
        fates = dict(connection.execute("SELECT fate, sum(records) FROM books GROUP BY 1").fetchall())
        assert fates == self.fates + self.own

    async def compact(self) -> int:
        """Compaction of both topics of ids, to its end; how many records went."""
        return sum([await self.log.compact(topic) for topic in COMPACTED])

    async def check_compacted(self) -> None:
        """What compaction left are the ids that are known, and nothing of one that was forgotten."""
        await self.compact()
        await self.compact()  # the nulls that the first one has seen
        known_ids = self.model.ids.keys()
        horizons = {records.horizon_key(n).decode() for n in range(PARTITIONS)}
        assert await self._keys(topics.SEEN_CHANGELOG) == known_ids | horizons
        left = await self._keys(topics.GENERATIONS)
        assert known_ids <= left
        assert left - known_ids <= self.model.never_taken

    async def _keys(self, topic: str) -> set[str]:
        """The keys that have a value, by their newest record."""
        found: dict[bytes, bool] = {}
        for n in range(PARTITIONS):
            at = self.log.start_offset(topic, n)
            while batch := await self.log.read(topic, n, at, READ_RECORDS):
                found |= {record.key or b"": record.value is not None for record in batch}
                at = batch[-1].offset + 1
        return {key.decode() for key, has_value in found.items() if has_value}

    async def prove(self) -> None:
        """A rebuild from `usage` has the live digest; one from `generations` the days after the horizon."""
        parts = parts_of(self.settings)
        folder = Path(self.settings.data)
        proof = await asyncio.to_thread(
            prove, self.settings, parts, folder / "prove.db", path_of(self.settings)
        )
        assert proof.holds, proof.findings[:3]
        assert proof.live_digest == proof.rebuilt_digest
        plan = Plan(settings=self.settings, parts=parts, source="generations")
        await asyncio.to_thread(self._rebuild, plan, folder / "generations.db")

    def _rebuild(self, plan: Plan, path: Path) -> None:
        aside = build.build(plan, path)
        try:
            self._check_after_horizon(aside.connection)
        finally:
            aside.remove()

    def _check_after_horizon(self, connection: sqlite3.Connection) -> None:
        horizon_day = times.day_of(self.model.horizon_ns, "UTC")
        totals = self.model.totals()
        for table, rows in zip(SUMMARIES, (totals.days, totals.users, totals.models), strict=True):
            found, wanted = (
                {key: row for key, row in side.items() if key[1] > horizon_day}
                for side in (rows_of(connection, table), figures_of(rows))
            )
            assert wanted
            assert found == wanted, table
        query = "SELECT id FROM processed_generations WHERE generation_date > ?"
        ids = {row[0] for row in connection.execute(query, (horizon_day,))}
        assert ids == {id for id, one in self.model.ids.items() if self.model.day_of(one) > horizon_day}

    @property
    def views(self) -> Path:
        """The views' database."""
        return path_of(self.settings)

    def _views(self) -> "closing[sqlite3.Connection]":
        return closing(sqlite3.connect(f"{self.views.resolve().as_uri()}?mode=ro", uri=True))


def rows_of(connection: sqlite3.Connection, table: str) -> Mapping[tuple[str, ...], tuple[int, ...]]:
    """The rows of a summary that have anything in them."""
    key = ROWS[table].split(", ")
    rows = connection.execute(f"SELECT {ROWS[table]}, {_FIGURES} FROM {table}")
    return {row[: len(key)]: row[len(key) :] for row in rows if any(row[len(key) :])}


def figures_of(rows: Rows) -> Mapping[tuple[str, ...], tuple[int, ...]]:
    """The model's rows, likewise."""
    return {key: row.figures() for key, row in rows.items()}


def audit_of(run: Run) -> tuple[int, ...]:
    """What the audit must say of a run."""
    return run.days, run.before, run.deleted, run.before - run.deleted, run.tokens, run.cost_nano, 1


def line_of(event: Event) -> bytes:
    """A version as it would be told again, to the letter of its content."""
    fields: dict[str, Any] = {
        name: getattr(event, name)
        for name in (
            *("id", "organization", "user", "model", "provider", "prompt_tokens", "completion_tokens"),
            *("total_tokens", "source", "authority", "revision", "void"),
        )
    }
    if event.cost_nano is not None:
        fields["cost"] = money.text_of(event.cost_nano)
    if event.created_ns is not None:
        fields["created_at"] = times.text_of(event.created_ns)
    return msgspec.json.encode({name: value for name, value in fields.items() if value not in (None, "")})


@asynccontextmanager
async def opened(data: Path, traffic: Traffic) -> AsyncIterator[Year]:
    """Everything open and running, in a folder of its own."""
    settings = load({}, None, data=str(data))
    now: list[Year] = []
    log = await open_log(
        settings.broker,
        topics.topic_table(PARTITIONS),
        clock=lambda: now[0].now_ms if now else traffic.midnight_ms(-1),
        bounds=Bounds(compaction_share=1.0),  # nobody else wants the time
    )
    year = Year(settings, traffic, log)
    now.append(year)
    await log.append([message_of(one) for one in _organizations(traffic)])
    directory = Directory(log)
    await directory.refresh()
    _, year.ledger, year.table = ledger_app(log, settings, directory)
    for n in range(PARTITIONS):
        await year.table.recover(n)
    year.sweeper = Sweeper(year.ledger, year.table, log, 1.0)
    schema.upgrade(year.views)
    database = await open_database(settings)
    year.followers = await open_followers(settings, database, log, lambda _: None)
    year.deciding = asyncio.create_task(year.decide())
    try:
        yield year
    finally:
        year.deciding.cancel()
        await asyncio.gather(year.deciding, return_exceptions=True)
        await year.ledger.release(range(PARTITIONS))
        year.table.release(range(PARTITIONS))
        await database.close()
        await log.close()


def _organizations(traffic: Traffic) -> Iterable[Organization]:
    logged_ms = traffic.midnight_ms(-1)
    for id, zone, markup in traffic.organizations():
        change = Change(effective_ns=0, logged_ms=logged_ms, timezone=zone, markup=markup)
        yield Organization(id=id, created_ms=logged_ms, history=(change,))
