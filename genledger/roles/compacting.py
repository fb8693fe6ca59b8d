"""Compaction of the embedded log: when it is worth it, and in which order. On Kafka the brokers do it.

    compacting = Compacting(log, specs, ledger.stands, ledger.flush)
    await compacting.start(watch, stack)

It follows each run of the retention job, once that has ended in every partition: the tombstones stand then,
and what they end may leave. Without runs, or beside one that does not end, it comes once a day, where half
of a topic is new. Each time the shelves of the table "seen" are brought to the disk first: a kill would take
a shelf back to its last flush, and the nulls that it lacks then must still be in its changelog. The log
itself sees to it that producers hardly notice (`streams/log/sqlite/compaction.py`). That it failed is an
alarm, and tried again later; the service goes on.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack

from genledger.roles.cleanup import course_of, first_ms
from genledger.roles.tasks import keep
from genledger.watch import Watch
from streams import clock, metrics, topics
from streams.clock import Clock
from streams.errors import LogError
from streams.log.interface import TopicSize, TopicSpec
from streams.log.sizes import topic_sizes
from streams.log.sqlite.log import SqliteLog
from streams.retention import Stand

LOOK_EVERY_S = 10.0
HOUR_MS = 3_600_000
# Without a run of the retention job: not for less than this, and not before half of a topic is new. Most
# of what is new stays, and what superseded records tell is worth having for a day.
DAY_MS = 24 * HOUR_MS
RECORDS_MIN = 10_000
NEW_SHARE = 0.5

_logger = logging.getLogger("genledger.compaction")

#: Brings the table's shelves to the disk: the changelog offset of each partition that is there for good;
#: None: not now.
Flush = Callable[[], Awaitable[Mapping[int, int] | None]]


def is_worth(size: TopicSize, run_ms: int, first_ms: int, now_ms: int) -> bool:
    """Whether a topic should be compacted: a run has begun since its last pass, or much is new. Pure.

    >>> is_worth(TopicSize(90, appended=1, compacted_ms=5), run_ms=9, first_ms=1, now_ms=10)
    True
    >>> is_worth(TopicSize(90_000, appended=90_000), run_ms=0, first_ms=5, now_ms=DAY_MS)
    False
    """
    # One in the future was a clock's that was ahead: it would keep us from working until then.
    compacted_ms = size.compacted_ms if size.compacted_ms <= now_ms else 0
    if run_ms > compacted_ms:
        return True
    is_much = size.appended >= max(RECORDS_MIN, NEW_SHARE * size.records)
    return is_much and now_ms - (compacted_ms or first_ms) >= DAY_MS


def run_ended_ms(stands: Sequence[Stand], now_ms: int) -> int | None:
    """When the newest run began, if it has ended everywhere; 0: there is none to follow. None: wait for it.

    One that has not ended for a day is waited for no longer: perhaps it was switched off meanwhile.
    """
    course = course_of(stands)
    if course is None:
        return 0
    if course.state != "running":
        return course.started_ms
    return None if now_ms - course.started_ms < DAY_MS else 0


class Compacting:
    """Looks whether there is something to do, and does it."""

    def __init__(
        self,
        log: SqliteLog,
        specs: Sequence[TopicSpec],
        stands: Callable[[], Sequence[Stand]],
        flush: Flush,
        now_ms: Clock = clock.now_ms,
    ) -> None:
        self._log = log
        self._specs = specs
        self._stands = stands
        self._flush = flush
        self._now_ms = now_ms
        self._expired_ms = 0
        self._first_ms = 0
        self._not_before_ms = 0
        # The run that each topic's last pass has followed: a clock that goes back must not make it due again.
        self._followed: dict[str, int] = {}
        self.alarm = ""

    async def start(self, watch: Watch, stack: AsyncExitStack) -> None:
        """Begin, and end with the stack."""
        watch.alarms["compaction"] = lambda: self.alarm
        keep(self._go_on(), "the compaction", watch, stack)

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()

    async def look(self) -> int:
        """Do what is due; how many records went. What fails waits for an hour."""
        if self._now_ms() < self._not_before_ms:
            return 0
        try:
            removed = await self._expire() + await self._compact()
        except (LogError, OSError, sqlite3.Error) as error:
            self.alarm = f"the log could not be compacted, and grows until it is: {error}"
            self._not_before_ms = self._now_ms() + HOUR_MS
            return 0
        self.alarm = ""
        return removed

    async def _expire(self) -> int:
        """Records older than their topic keeps them: once an hour."""
        if self._now_ms() - self._expired_ms < HOUR_MS:
            return 0
        aged = [spec.name for spec in self._specs if spec.retention_ms is not None]
        removed = sum([await self._log.compact(name) for name in aged])
        self._expired_ms = self._now_ms()
        metrics.COMPACTION_REMOVED.inc(removed)
        return removed

    async def _compact(self) -> int:
        sizes = await topic_sizes(self._log, [spec for spec in self._specs if spec.compacted])
        metrics.COMPACTION_LAST_TIMESTAMP.set(sizes[topics.GENERATIONS].compacted_ms / 1000)
        run_ms = run_ended_ms(self._stands(), self._now_ms())
        if run_ms is None:
            return 0
        self._first_ms = self._first_ms or await first_ms(self._log)
        begun_ms, now_ms = self._first_ms, self._now_ms()
        runs_ms = {name: 0 if self._followed.get(name) == run_ms else run_ms for name in sizes}
        worth = [name for name, size in sizes.items() if is_worth(size, runs_ms[name], begun_ms, now_ms)]
        removed = sum([await self._pass(name, run_ms) for name in worth])
        if removed:
            given_bytes = await self._log.shrink()
            _logger.info("compaction removed %d records and gave %d bytes back", removed, given_bytes)
        return removed

    async def _pass(self, topic: str, run_ms: int) -> int:
        below = None
        if topic == topics.SEEN_CHANGELOG:
            below = await self._flush()
            if below is None:
                return 0  # a table is being read back: at the next look
        removed = await self._log.compact(topic, below)
        self._followed[topic] = run_ms
        metrics.COMPACTION_REMOVED.inc(removed)
        return removed
