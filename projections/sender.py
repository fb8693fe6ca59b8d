"""The points' agent where they go to InfluxDB: each batch sent, and only then the position moved on.

    sender = Sender(log, settings, outbox, positions, quarantine, told)
    await sender.open()                  # that the bucket belongs to this log
    app = sender_app(sender, log, settings)
    await sender.go_on()                 # keeps the positions up to date in the bucket

A position is written at most once a second, after what it stands for. So what was sent and is not yet known
as sent is sent again after a kill: it is the same points. A new owner of a partition begins a minute before
the position, for a former one's late write must not be the last word.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from faust.types import TP

from projections.agents import Taken
from projections.points import Changes, Point, Points
from projections.snapshot.load import position_of
from projections.stores.influxdb.bookmarks import Bookmarks
from projections.stores.influxdb.line import line_of, opening_line_of, void_line_of
from projections.stores.influxdb.outbox import Outbox
from projections.stores.influxdb.server import InfluxError
from projections.stores.influxdb.target import Target
from projections.stores.influxdb.writer import Line, Refusal
from projections.stores.sqlite import holds
from projections.view import START, Position, View, folded
from streams import clock, faultpoints, records, snapshots, topics
from streams.app import App, add_agent, make_app
from streams.errors import LogBehindView
from streams.log.batches import Batch
from streams.log.interface import Headers, Log, Message
from streams.log.partition import partition_of
from streams.settings import POINTS_MAX, Settings

KEEP_EVERY_S = 1.0
AGAIN_S = 60.0
LOOK_AGAIN_S = 5.0
HOUR_MS = 3_600_000
# Between two of these an event loop that has more to do gets its turn.
TURN_RECORDS = 500
ERROR_LENGTH_MAX = 500

Quarantine = Callable[[Sequence[Message]], Awaitable[None]]


class Sender:
    """Brings the points in InfluxDB forward, batch by batch; `told` hears of each."""

    def __init__(
        self,
        log: Log,
        target: Target,
        outbox: Outbox,
        bookmarks: Bookmarks,
        quarantine: Quarantine,
        told: Callable[[Taken], None],
    ) -> None:
        self.view: View[Any, Changes] = Points()
        self.refused = 0
        #: Why our partitions wait for their positions, or ''.
        self.waits = ""
        self._log = log
        self._dedup = target.dedup
        self._outbox = outbox
        self._bookmarks = bookmarks
        self._quarantine = quarantine
        self._told = told
        self._positions: dict[int, Position] = {}
        self._trails: dict[int, deque[tuple[float, Position]]] = {}
        # What was last written of each, and in which hour: a position is a point of its hour.
        self._kept: dict[int, tuple[Position, Position]] = {}
        self._hour = -1

    async def open(self) -> None:
        """Look whether InfluxDB answers; `LogBehindView` when the log lacks what the points have taken.

        Nothing is kept of it: which partitions are ours the group says later.
        """
        await self._read(range(self._log.partitions(topics.USAGE)))

    async def prepare(self, partitions: Iterable[int]) -> None:
        """Find out where to go on from, as the bucket says it now: another may have had the partitions.

        Waits for InfluxDB; whoever cancels it has taken nothing over.
        """
        try:
            while True:
                try:
                    found = await self._read(partitions)
                    break
                except InfluxError as error:
                    self.waits = str(error)
                await asyncio.sleep(LOOK_AGAIN_S)
        finally:
            self.waits = ""
        for partition, position in found.items():
            self._positions[partition] = position
            self._trails[partition] = deque([(clock.monotonic_s(), position)])
            self._kept.pop(partition, None)

    async def _read(self, partitions: Iterable[int]) -> Mapping[int, Position]:
        found = await self._bookmarks.read()
        positions: dict[int, Position] = {}
        for partition in partitions:
            mark = found.get(partition)
            position = await self._first(partition) if mark is None else mark.minute_ago
            if position != START and not await holds(self._log, topics.USAGE, partition, position):
                raise LogBehindView(
                    f"the points in InfluxDB were made from another log: they have taken record"
                    f" {position.usage_offset} of usage/{partition}, which this one does not have. Put back"
                    " the log that belongs to them, or take another bucket; or drop the measurement"
                    " genledger_positions, and all points are written from this log's beginning"
                )
            positions[partition] = position
        return positions

    async def _first(self, partition: int) -> Position:
        """Where a bucket without points begins: with the first fact, or behind those that have gone.

        What those were is in the snapshot's summaries; their points are in no log any more.
        """
        await self._log.read(topics.USAGE, partition, self._log.start_offset(topics.USAGE, partition), 1)
        if not self._log.start_offset(topics.USAGE, partition):  # as that read has found it
            return START
        manifest = await snapshots.beginning(self._log)
        stood = None if manifest is None else manifest.stood(topics.USAGE, partition)
        return START if stood is None else position_of(stood)

    def next_offset(self, partition: int) -> int:
        """The offset that the points will take next."""
        position = self._positions.get(partition, START)
        return max(position.usage_offset + 1, self._log.start_offset(topics.USAGE, partition))

    def places(self) -> Mapping[tuple[str, int], tuple[int, int]]:
        """Where the points of our partitions stand and where the log ends."""
        return {
            (topics.USAGE, n): (self.next_offset(n), self._log.end_offset(topics.USAGE, n))
            for n in self._positions
        }

    async def positions(self, assigned: Iterable[TP]) -> Mapping[TP, int]:
        """Where to go on from."""
        return {tp: self.next_offset(tp.partition) for tp in assigned}

    async def take(self, batch: Batch) -> None:
        """Send a batch's points. Returns when they are there, and those that were refused are kept aside."""
        started_s = clock.monotonic_s()
        before = self._positions.get(batch.partition, START)
        items: list[Any] = []
        for start in range(0, len(batch.records), TURN_RECORDS):
            items += [self.view.decode(record) for record in batch.records[start : start + TURN_RECORDS]]
            await asyncio.sleep(0)
        work = folded(self.view, batch.records, items, before)
        if work.changes is not None:
            refused = await self._outbox.put(await self._lines(work.changes))
            if refused:
                await self._quarantine([self._rejected(one) for one in refused])
                self.refused += len(refused)
            faultpoints.reached("points-written")
            self._positions[batch.partition] = work.after
        oldest_ms = min(record.time_ms for record in batch.records)
        next_offset = self.next_offset(batch.partition)
        write_s = clock.monotonic_s() - started_s
        records = len(batch.records)
        self._told(Taken("points", batch.topic, batch.partition, next_offset, records, oldest_ms, write_s))

    async def _lines(self, changes: Changes) -> Sequence[Line]:
        """What is gone first: a point under the same tags and time must be the last word."""
        dedup = self._dedup
        lines = [Line(void_line_of(point, dedup), point, gone=True) for point in changes.gone]
        for n, point in enumerate(changes.points.values()):
            lines.append(Line(line_of(point, dedup), point))
            if n % TURN_RECORDS == TURN_RECORDS - 1:
                await asyncio.sleep(0)
        lines += [Line(opening_line_of(opening), opening) for opening in changes.openings.values()]
        return lines

    def _rejected(self, refusal: Refusal) -> Message:
        """The line as it was, why it was refused, and which record it came from."""
        of = refusal.line.of
        assert of is not None
        key = of.request_id if isinstance(of, Point) else f"{of.organization}-{of.day}-{of.margin}"
        partition = partition_of(key.encode(), self._log.partitions(topics.USAGE))
        headers: Headers = (
            ("reason", records.REFUSED_POINT),
            ("error", refusal.message[:ERROR_LENGTH_MAX].encode()),
            ("partition", b"%d" % partition),
            ("offset", b"%d" % of.offset),
        )
        return Message(topics.REJECTED, partition, key.encode(), refusal.line.text, headers)

    async def go_on(self) -> None:
        """Keep the positions in the bucket up to date, until cancelled."""
        while True:
            await asyncio.sleep(KEEP_EVERY_S)
            await self.keep()

    async def keep(self) -> None:
        """Write the positions that are not there as they are. Those at rest once an hour, too: a bucket whose
        points are kept for a time only would forget them.
        """
        now_s, hour = clock.monotonic_s(), clock.now_ms() // HOUR_MS
        if hour != self._hour:
            self._kept.clear()
            self._hour = hour
        due: dict[int, tuple[Position, Position]] = {}
        for partition, position in self._positions.items():
            trail = self._trails[partition]
            if trail[-1][1] != position:
                trail.append((now_s, position))
            while len(trail) > 1 and now_s - trail[1][0] >= AGAIN_S:
                trail.popleft()
            mark = position, trail[0][1]
            if position != START and self._kept.get(partition) != mark:
                due[partition] = mark
        if due:
            await self._bookmarks.write(due)
            self._kept.update(due)
            faultpoints.reached("points-positioned")

    async def release(self, partitions: Iterable[int]) -> None:
        """These are another's from here on."""
        for partition in partitions:
            for held in (self._positions, self._trails, self._kept):
                held.pop(partition, None)


def sender_app(sender: Sender, log: Log, settings: Settings) -> App:
    """The Faust app of the points."""
    own = msgspec.structs.replace(settings, batch_records_max=POINTS_MAX)
    app = make_app(topics.POINTS_GROUP, log, own)
    app.prepare = sender.prepare
    app.release = sender.release
    add_agent(app, [topics.USAGE], sender.take, sender.positions)
    return app
