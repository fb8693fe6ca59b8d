"""A small year in one folder: facts by the real ledger, on a clock that a test sets, and live views of them.

    async with opened(data) as world:
        await world.days(400)
        await world.follow()
    digest_of(data / "genledger.db")

Each opening reads what is known of ids back from the changelog, as a restart does.
"""

import random
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from genledger.roles.views import open_database, open_followers, path_of
from projections import schema
from projections.agents import Follower
from projections.digest import digest
from streams import retention, times, topics
from streams.agents import Ledger
from streams.directory import Directory
from streams.known import Horizon
from streams.log.batches import Batch
from streams.log.interface import Message
from streams.log.partition import partition_of
from streams.log.sqlite.log import SqliteLog, open_log
from streams.records import forget_message
from streams.rules import Rules
from streams.settings import Settings, load
from tests.ledger.sim import event

PARTITIONS = 4
DAYS = 400
A_DAY = 5
FIRST_NS = times.nanoseconds_of("2025-11-01T00:00:00Z")
MORNING_NS = 9 * times.HOUR_NS
READ_RECORDS = 10_000
KEPT_DAYS = 100


def settings_of(data: Path, **overrides: Any) -> Settings:
    """Where the year's files are."""
    return load({}, None, data=str(data), cleanup_retention_days=60, **overrides)


class Known:
    """What is known of ids, in memory."""

    def __init__(self) -> None:
        self._values: dict[int, dict[bytes, bytes]] = {n: {} for n in range(PARTITIONS)}

    def get_many(self, partition: int, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """The values of keys."""
        return [self._values[partition].get(key) for key in keys]

    def write(self, partition: int, changes: Mapping[bytes, bytes | None], _next_offset: int = 0) -> None:
        """Bring it forward."""
        for key, value in changes.items():
            if value is None:
                self._values[partition].pop(key, None)
            else:
                self._values[partition][key] = value

    async def recover(self, log: SqliteLog) -> None:
        """Read it back."""
        for n in range(PARTITIONS):
            offset = log.start_offset(topics.SEEN_CHANGELOG, n)
            while found := await log.read(topics.SEEN_CHANGELOG, n, offset, READ_RECORDS):
                self.write(n, {record.key or b"": record.value for record in found})
                offset = found[-1].offset + 1


class World:
    """The parts."""

    def __init__(self, settings: Settings, log: SqliteLog, ledger: Ledger, clock: list[int]) -> None:
        self.settings, self.log, self.ledger = settings, log, ledger
        self._clock = clock
        self.followers: Sequence[Follower] = ()

    def at(self, day: int) -> None:
        """It is the morning of a day."""
        self._clock[0] = (FIRST_NS + day * times.DAY_NS + MORNING_NS) // times.MS_NS

    async def told(self, id: str, day: int, **fields: Any) -> None:
        """One event of a generation made on a day, and what becomes of it."""
        await self.log.append([message_of(id, event(id=id, created_at=text_of(day), **fields))])
        await self.decide()

    async def days(self, first: int, last: int) -> None:
        """Days of traffic, from a seed; each fifth day what was told is decided."""
        source = random.Random(first)
        for day in range(first, last):
            self.at(day)
            ids = [f"gen-{day}-{n}" for n in range(A_DAY)]
            made = [made_of(id, day, source) for id in ids]
            if day % 5 == 4:  # one of before is told again, dearer
                ids.append(f"gen-{day - 3}-0")
                made.append(event(id=ids[-1], created_at=text_of(day - 3), cost="7", organization="org-0"))
            await self.log.append(list(map(message_of, ids, made)))
            if day % 5 == 4:
                await self.decide()
        await self.decide()

    async def decide(self) -> None:
        """Decide whatever there is."""
        for n in range(PARTITIONS):
            while (start := self.ledger.next_offset(n)) < self.log.end_offset(topics.GENERATIONS, n):
                found = await self.log.read(topics.GENERATIONS, n, start, READ_RECORDS)
                await self.ledger.take(Batch(topics.GENERATIONS, n, start, found))

    async def forget(self, id: str, day: int) -> None:
        """The retention job forgets an id of a day."""
        cutoff_ns = FIRST_NS + (day + 1) * times.DAY_NS
        run = Horizon("run-1", cutoff_ns, cutoff_ns + 2 * times.DAY_NS, "started", 60, PARTITIONS)
        key = id.encode()
        tombstone = forget_message(key, run, partition_of(key, PARTITIONS))
        await self.log.append([*retention.start_messages(run), tombstone])
        await self.decide()

    async def follow(self) -> None:
        """Bring the live views to the end of the log."""
        path = path_of(self.settings)
        schema.upgrade(path)
        database = await open_database(self.settings)
        try:
            followers = await open_followers(self.settings, database, self.log, lambda _: None)
            for follower in followers:
                for topic in follower.topics:
                    for n in range(self.log.partitions(topic)):
                        await self._bring(follower, topic, n)
        finally:
            await database.close()

    async def _bring(self, follower: Follower, topic: str, n: int) -> None:
        start = min(follower.next_offset(view, topic, n) for view in follower.views)
        while start < self.log.end_offset(topic, n):
            found = await self.log.read(topic, n, start, READ_RECORDS)
            await follower.take(Batch(topic, n, start, found))
            start = found[-1].offset + 1


def message_of(id: str, value: bytes) -> Message:
    """An event where it belongs."""
    key = id.encode()
    return Message(topics.GENERATIONS, partition_of(key, PARTITIONS), key, value)


def made_of(id: str, day: int, source: random.Random) -> bytes:
    """A generation of a day."""
    n = source.randrange(1000)
    return event(
        id=id,
        organization=f"org-{n % 3}" if not id.endswith("-0") else "org-0",
        created_at=text_of(day),
        model=f"m-{n % 4}",
        user=f"u-{n % 5}",
        cost=None if n % 50 == 0 else f"0.{n:03d}",
        prompt_tokens=n,
        completion_tokens=1,
    )


def text_of(day: int) -> str:
    """The morning of a day, as an event has it."""
    return times.text_of(FIRST_NS + day * times.DAY_NS + MORNING_NS)


@asynccontextmanager
async def opened(data: Path) -> AsyncIterator[World]:
    """The log and its ledger, as whoever is started next has them."""
    settings = settings_of(data)
    clock = [FIRST_NS // times.MS_NS]
    log = await open_log(settings.broker, topics.topic_table(PARTITIONS), clock=lambda: clock[0])
    try:
        directory, table = Directory(log), Known()
        await directory.refresh()
        await table.recover(log)
        ledger = Ledger(log, table, Rules.of(directory, settings), directory)
        for n in range(PARTITIONS):
            await ledger.take_over(n)
        world = World(settings, log, ledger, clock)
        world.at(DAYS)
        yield world
    finally:
        await log.close()


def digest_of(path: Path) -> Mapping[str, str]:
    """Every table's digest."""
    with closing(sqlite3.connect(path)) as connection:
        return digest(connection)
