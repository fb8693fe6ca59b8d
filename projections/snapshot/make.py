"""A snapshot in the making: up to where it may reach, and the views rebuilt to there and packed.

    outlook = look(settings, days=120, live=Path("data/genledger.db"))
    outlook.facts                      # about so many would go
    package = make(settings, outlook, live, told)

It reaches to the last fact of each partition that is older than so many days, reckoned from the newest log
time, and never beyond where anything stands that is made of facts: the live views, and the points in
InfluxDB. It is made of the snapshot before it and the facts behind that.
"""

import asyncio
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import msgspec

from projections import schema
from projections.digest import digest
from projections.rebuild import build
from projections.rebuild.aside import Aside, Stands, stands
from projections.rebuild.plan import Part, Place, Plan, parts_of, tables_of, topics_of, views_of
from projections.snapshot import package
from projections.snapshot.package import Package
from projections.stores.influxdb.positions import read_positions
from projections.stores.influxdb.server import Server
from projections.stores.influxdb.target import target_of
from projections.stores.sqlite import read_only
from projections.view import decode_fact
from streams import clock, retention, snapshots, topics
from streams.errors import ViewError
from streams.log.backends import open_log
from streams.log.interface import Log
from streams.settings import Settings
from streams.snapshots import Manifest, Rows, Stood

ASIDE = "snapshot.db"
DAY_MS = topics.DAY_MS

Reaches = Mapping[Place, int]


class Outlook(msgspec.Struct, frozen=True):
    """What a snapshot made now would be of. `reach` is the last offset that it may take of each place."""

    log: str
    days: int
    until_ms: int
    #: Facts are there from about then on.
    from_ms: int
    former: Manifest | None
    starts: Mapping[int, int]
    ends: Mapping[int, int]
    reach: Reaches

    @property
    def facts(self) -> int:
        """How many facts would go, by their offsets."""
        return sum(max(0, self.ends[n] - start) for n, start in self.starts.items())


def look(settings: Settings, days: int, live: Path) -> Outlook:
    """Up to where a snapshot may reach now; `ViewError` when that is not known."""
    if not live.exists():
        raise ViewError(f"{live} does not exist: a snapshot is made where the views are. Name their --data")
    return asyncio.run(_look(settings, days, live))


async def _look(settings: Settings, days: int, live: Path) -> Outlook:
    log = await open_log(settings, read_only=True)
    try:
        parts = parts_of(settings)
        newest_ms = await retention.newest_ms(log)
        until_ms = max(0, newest_ms // DAY_MS * DAY_MS - days * DAY_MS)
        await log.refresh(topics_of(views_of(parts)))
        with closing(sqlite3.connect(read_only(live), uri=True)) as connection:
            reach = _reach(log, parts, stands(connection))
        sent = await _sent(settings)
        partitions = range(log.partitions(topics.USAGE))
        if sent is not None:
            reach |= {(topics.USAGE, n): min(reach[topics.USAGE, n], sent.get(n, -1)) for n in partitions}
        starts = {n: log.start_offset(topics.USAGE, n) for n in partitions}
        ends = {n: await _end(log, n, until_ms, reach[topics.USAGE, n]) for n in partitions}
        former = await snapshots.newest(log)
        from_ms = await _oldest_ms(log) if former is None else former.until_ms
        return Outlook(log.identity, days, until_ms, from_ms, former, starts, ends, reach)
    finally:
        await log.close()


async def _oldest_ms(log: Log) -> int:
    firsts = [
        await log.read(topics.USAGE, n, log.start_offset(topics.USAGE, n), 1)
        for n in range(log.partitions(topics.USAGE))
    ]
    return min((decode_fact(first[0]).time_ms for first in firsts if first), default=0)


def _reach(log: Log, parts: tuple[Part, ...], live: Stands) -> dict[Place, int]:
    """The least that any view has come to in each partition."""
    found: dict[Place, int] = {}
    for topic, views in topics_of(views_of(parts)).items():
        for n in range(log.partitions(topic)):
            positions = [live.get((view.name, topic, n)) for view in views]
            found[topic, n] = min(-1 if one is None else one.usage_offset for one in positions)
    return found


async def _sent(settings: Settings) -> Mapping[int, int] | None:
    """How far the points in InfluxDB surely have come, by partition; None where none are sent."""
    target = target_of(settings)
    if target is None:
        return None
    server = Server(target)
    try:
        kept = await read_positions(server, settings.topic_prefix)
    finally:
        await server.close()
    # A new owner of a partition begins a minute before: that fact must be there still.
    return {partition: one.minute_ago.usage_offset for partition, one in kept.items()}


async def _end(log: Log, partition: int, until_ms: int, reach: int) -> int:
    """About the last offset that is old enough: by halving, as if times only rose."""
    low = log.start_offset(topics.USAGE, partition)
    high = max(low, min(reach + 1, log.end_offset(topics.USAGE, partition)))
    while low < high:
        middle = (low + high) // 2
        records = await log.read(topics.USAGE, partition, middle, 1)
        if records and decode_fact(records[0]).time_ms < until_ms:
            low = middle + 1
        else:
            high = middle
    return max(low - 1, log.start_offset(topics.USAGE, partition))


def make(
    settings: Settings, outlook: Outlook, live: Path, told: build.Told = lambda _: None
) -> Package | None:
    """Rebuild the views up to there, beside the live ones, and pack them; None when nothing could go.

    Stopped and begun again it goes on where it was.
    """
    parts = parts_of(settings)
    stops = {
        (view.name, *place): reach
        for place, reach in outlook.reach.items()
        for view in topics_of(views_of(parts))[place[0]]
    }
    plan = Plan(settings=settings, parts=parts, until_ms=outlook.until_ms - 1, stops=stops)
    aside = build.build(plan, live.with_name(ASIDE), told)
    try:
        vector = _vector(aside)
        _require_within(vector, outlook)
        usage = [one for one in vector if one.topic == topics.USAGE]
        if not any(one.offset > outlook.starts[one.partition] for one in usage):
            return None
        path = live.with_name(package.READY)
        number = 1 if outlook.former is None else outlook.former.number + 1
        _pack(path, aside, number, outlook, plan, vector)
        return Package(path)
    finally:
        aside.remove()


def _require_within(vector: tuple[Stood, ...], outlook: Outlook) -> None:
    """What an earlier run has rebuilt may be beyond where the views, or the points, stand by now."""
    for one in vector:
        had = None if outlook.former is None else outlook.former.stood(one.topic, one.partition)
        least = -1 if had is None else had.offset
        if one.offset > max(least, outlook.reach[one.topic, one.partition]):
            raise ViewError(
                f"{one.topic}/{one.partition}: views have gone back since this began: begin again"
            )


def _vector(aside: Aside) -> tuple[Stood, ...]:
    """Where the rebuilt views stand, which is the same for all that follow a topic."""
    found: dict[Place, Stood] = {}
    for (view, topic, n), at in sorted(aside.positions().items()):
        stood = Stood(topic, n, at.usage_offset, at.source_offset, at.digest, at.records)
        if found.setdefault((topic, n), stood) != stood:
            raise ViewError(f"{view} was not rebuilt as far as the others in {topic}/{n}: begin again")
    return tuple(found.values())


def _pack(
    path: Path, aside: Aside, number: int, outlook: Outlook, plan: Plan, vector: tuple[Stood, ...]
) -> None:
    tables = tables_of(plan.parts)
    whole = digest(aside.connection, tables=tables)["all"]

    def manifest_of(held: Mapping[str, Rows]) -> Manifest:
        return Manifest(
            number=number,
            log=outlook.log,
            revision=schema.HEAD,
            versions={view.name: view.version for view in plan.views},
            parts=plan.parts,
            days=outlook.days,
            until_ms=outlook.until_ms,
            made_ms=clock.now_ms(),
            vector=vector,
            tables=held,
            digest=whole,
        )

    package.make(path, aside.connection, number, tables, manifest_of)
