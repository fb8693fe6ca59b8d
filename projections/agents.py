"""A view's agent: it follows the view's topics, each batch one transaction of rows and position.

    follower = Follower(Summaries(), database, log)
    await follower.open()                # where it stands, and that the log has what it has taken
    app = follower_app(follower, log, settings)

Each view has an app, and so a consumer, of its own: a slow one delays only itself.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from faust.types import TP

from projections.stores.sqlite import Database
from projections.view import START, Position, View
from streams import clock, metrics
from streams.app import App, add_agent, make_app
from streams.errors import ViewFull
from streams.log.batches import Batch
from streams.log.interface import Log
from streams.settings import Settings

# A full disk passes when somebody makes room: until then the position stays, and health is red.
FULL_RETRY_S = 1.0


class Follower:
    """Brings one view forward, batch by batch, from its own positions."""

    def __init__(self, view: View[Any, Any], database: Database, log: Log) -> None:
        self.view = view
        self.full = False
        self._database = database
        self._log = log
        self._positions: dict[tuple[str, int], Position] = {}
        self._changed = asyncio.Event()

    async def open(self) -> None:
        """Read where the view stands; `LogBehindView` when the log lacks what it has taken."""
        await self._database.check_log(self.view, self._log)
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
        before = self._positions.get(place, START)
        started_s = clock.monotonic_s()
        while True:
            try:
                after = await self._database.apply(
                    self.view, batch.topic, batch.partition, batch.records, before
                )
                break
            except ViewFull:
                self.full = True
                metrics.SINK_ERRORS.labels(self.view.name, "full").inc()
                await asyncio.sleep(FULL_RETRY_S)
        self.full = False
        self._positions[place] = after
        self._changed.set()
        self._changed = asyncio.Event()
        self._measure(batch, after, started_s)

    async def wait_for_change(self, timeout_s: float) -> bool:
        """Until the view's rows have changed, or the time is over."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_s)
            return True
        return False

    async def positions(self, assigned: Iterable[TP]) -> Mapping[TP, int]:
        """Where to go on from: the view's own positions, never the group's."""
        return {tp: self.next_offset(tp.topic, tp.partition) for tp in assigned}

    def _measure(self, batch: Batch, after: Position, started_s: float) -> None:
        name = self.view.name
        metrics.SINK_WRITE_SECONDS.labels(name).observe(clock.monotonic_s() - started_s)
        metrics.APPLIED_OFFSET.labels(name, str(batch.partition)).set(after.usage_offset)
        metrics.RECORDS.labels(name, "applied").inc(len(batch.records))


def follower_app(follower: Follower, log: Log, settings: Settings) -> App:
    """The Faust app of a view."""
    app = make_app(follower.view.name, log, settings)
    add_agent(app, list(follower.view.topics), follower.take, follower.positions)
    return app
