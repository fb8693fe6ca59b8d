"""The views' agent: it follows their topics, each batch one transaction of rows and positions.

    follower = Follower([Summaries(), Processed()], database, log, told)
    await follower.open()                # where they stand, and that the log has what they have taken
    app = follower_app(follower, log, settings)

Views of the same topics that are kept in the same file have one follower: each record is read and decoded
once, and there is one commit. Each still has a position of its own.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    """Brings views of the same topics forward, batch by batch; `told` hears of each."""

    def __init__(self, views: Sequence[View[Any, Any]], database: Database, log: Log, told: Told) -> None:
        self.views = views
        self._database = database
        self._log = log
        self._told = told
        self.full = False
        self._swaps = database.swaps
        #: What each view has taken last, by topic and partition.
        self.taken: dict[tuple[str, str, int], Position] = {}

    @property
    def topics(self) -> Sequence[str]:
        """The topics that all its views follow."""
        return self.views[0].topics

    async def open(self) -> None:
        """Read where the views stand; `LogBehindView` when the log lacks what one has taken."""
        for view in self.views:
            await self._database.check_log(view, self._log)
        await self._read_positions()

    def join(self, other: "Follower") -> None:
        """Take along the views of another one, which is open too and of the same topics."""
        self.views = [*self.views, *other.views]
        self.taken |= other.taken

    async def _read_positions(self) -> None:
        self._swaps = self._database.swaps
        for view in self.views:
            for topic in view.topics:
                for partition, position in (await self._database.positions(view, topic)).items():
                    self.taken[view.name, topic, partition] = position

    def next_offset(self, view: View[Any, Any], topic: str, partition: int) -> int:
        """The offset that a view will take next."""
        position = self.taken.get((view.name, topic, partition))
        return self._log.start_offset(topic, partition) if position is None else position.usage_offset + 1

    def places(self, view: View[Any, Any]) -> Mapping[tuple[str, int], tuple[int, int]]:
        """Where a view stands and where the log ends, by topic and partition."""
        return {
            (topic, n): (self.next_offset(view, topic, n), self._log.end_offset(topic, n))
            for topic in self.topics
            for n in range(self._log.partitions(topic))
        }

    async def take(self, batch: Batch) -> None:
        """Write a batch; while the disk is full, wait and try again."""
        started_s = clock.monotonic_s()
        while True:
            try:
                await self._apply(batch)
                break
            except PositionMoved:
                if self._swaps == self._database.swaps:
                    raise
                await self._read_positions()  # rebuilt rows, which had come further, took the place of ours
            except ViewFull:
                self._tell_full(full=True)
                await asyncio.sleep(FULL_RETRY_S)
        if self.full:
            self._tell_full(full=False)
        write_s = clock.monotonic_s() - started_s
        for view in self.views:
            self._told(self._taken(view, batch, write_s))

    async def _apply(self, batch: Batch) -> None:
        places = [(view.name, batch.topic, batch.partition) for view in self.views]
        befores = [self.taken.get(place, START) for place in places]
        stands = list(zip(self.views, befores, strict=True))
        afters = await self._database.apply(stands, batch.topic, batch.partition, batch.records)
        self.taken.update(zip(places, afters, strict=True))

    def _tell_full(self, *, full: bool) -> None:
        self.full = full
        for view in self.views:
            self._told(Full(view.name, full=full))

    async def positions(self, assigned: Iterable[TP]) -> Mapping[TP, int]:
        """Where to go on from: the views' own positions, the least of them, never the group's."""
        return {
            tp: min(self.next_offset(view, tp.topic, tp.partition) for view in self.views) for tp in assigned
        }

    def _taken(self, view: View[Any, Any], batch: Batch, write_s: float) -> Taken:
        oldest_ms = min(record.time_ms for record in batch.records)
        next_offset = self.next_offset(view, batch.topic, batch.partition)
        return Taken(
            view.name, batch.topic, batch.partition, next_offset, len(batch.records), oldest_ms, write_s
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
    """The Faust app of a follower.

    What waits is taken in larger batches than a ledger's: a row that several records touch is written once.
    """
    own = msgspec.structs.replace(settings, batch_records_max=settings.views_batch_records_max)
    app = make_app(follower.views[0].name, log, own)
    add_agent(app, list(follower.topics), follower.take, follower.positions)
    return app
