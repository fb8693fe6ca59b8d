"""A view's agent: it follows the view's topics, each batch one transaction of rows and position.

    follower = Follower(Summaries(), database, log, told)
    await follower.open()                # where it stands, and that the log has what it has taken
    app = follower_app(follower, log, settings)

Each view has an app, and so a consumer, of its own: a slow one delays only itself.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from faust.types import TP

from projections.stores.sqlite import Database
from projections.view import START, Position, View
from streams import clock, metrics
from streams.app import App, add_agent, make_app
from streams.errors import PositionMoved, ViewFull
from streams.log.batches import Batch
from streams.log.interface import Log
from streams.settings import Settings

# A full disk passes when somebody makes room: until then the position stays, and health is red.
FULL_RETRY_S = 1.0


class Taken(msgspec.Struct, frozen=True, tag=True):
    """A batch is in a view's rows. `oldest_ms` is the log time of its oldest record."""

    view: str
    topic: str
    partition: int
    next_offset: int
    records: int
    oldest_ms: int
    write_s: float


class Full(msgspec.Struct, frozen=True, tag=True):
    """A view can't be written, for the disk is full; or it can again."""

    view: str
    full: bool


Told = Callable[[Taken | Full], None]


class Follower:
    """Brings one view forward, batch by batch, from its own positions; `told` hears of each."""

    def __init__(self, view: View[Any, Any], database: Database, log: Log, told: Told) -> None:
        self.view = view
        self._database = database
        self._log = log
        self._told = told
        self.full = False
        self._swaps = database.swaps
        self._positions: dict[tuple[str, int], Position] = {}

    async def open(self) -> None:
        """Read where the view stands; `LogBehindView` when the log lacks what it has taken."""
        await self._database.check_log(self.view, self._log)
        await self._read_positions()

    async def _read_positions(self) -> None:
        self._swaps = self._database.swaps
        for topic in self.view.topics:
            for partition, position in (await self._database.positions(self.view, topic)).items():
                self._positions[topic, partition] = position

    def next_offset(self, topic: str, partition: int) -> int:
        """The offset that will be taken next."""
        position = self._positions.get((topic, partition))
        return self._log.start_offset(topic, partition) if position is None else position.usage_offset + 1

    def places(self) -> Mapping[tuple[str, int], tuple[int, int]]:
        """Where the view stands and where the log ends, by topic and partition."""
        return {
            (topic, n): (self.next_offset(topic, n), self._log.end_offset(topic, n))
            for topic in self.view.topics
            for n in range(self._log.partitions(topic))
        }

    async def take(self, batch: Batch) -> None:
        """Write a batch; while the disk is full, wait and try again."""
        place = (batch.topic, batch.partition)
        started_s = clock.monotonic_s()
        while True:
            try:
                before = self._positions.get(place, START)
                after = await self._database.apply(
                    self.view, batch.topic, batch.partition, batch.records, before
                )
                break
            except PositionMoved:
                if self._swaps == self._database.swaps:
                    raise
                await self._read_positions()  # rebuilt rows, which had come further, took the place of ours
            except ViewFull:
                self.full = True
                self._told(Full(self.view.name, full=True))
                await asyncio.sleep(FULL_RETRY_S)
        if self.full:
            self.full = False
            self._told(Full(self.view.name, full=False))
        self._positions[place] = after
        self._told(self._taken(batch, after, clock.monotonic_s() - started_s))

    async def positions(self, assigned: Iterable[TP]) -> Mapping[TP, int]:
        """Where to go on from: the view's own positions, never the group's."""
        return {tp: self.next_offset(tp.topic, tp.partition) for tp in assigned}

    def _taken(self, batch: Batch, after: Position, write_s: float) -> Taken:
        oldest_ms = min(record.time_ms for record in batch.records)
        return Taken(
            self.view.name,
            batch.topic,
            batch.partition,
            after.usage_offset + 1,
            len(batch.records),
            oldest_ms,
            write_s,
        )


def measure(told: Taken | Full, now_ms: int) -> None:
    """What a follower tells, as metrics. End to end is measured by the oldest record of each batch."""
    if isinstance(told, Full):
        if told.full:
            metrics.SINK_ERRORS.labels(told.view, "full").inc()
        return
    metrics.SINK_WRITE_SECONDS.labels(told.view).observe(told.write_s)
    metrics.APPLIED_OFFSET.labels(told.view, str(told.partition)).set(told.next_offset - 1)
    metrics.RECORDS.labels(told.view, "applied").inc(told.records)
    if told.view == "summaries":
        metrics.END_TO_END_SECONDS.observe(max(0, now_ms - told.oldest_ms) / 1000)


def follower_app(follower: Follower, log: Log, settings: Settings) -> App:
    """The Faust app of a view."""
    app = make_app(follower.view.name, log, settings)
    add_agent(app, list(follower.view.topics), follower.take, follower.positions)
    return app
