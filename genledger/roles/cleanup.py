"""The retention job's leader, as a part of `genledger serve` and of the jobs leader: it begins the runs.

    cleanup = Cleanup(settings, log, SweepsHere(sweeper))
    await cleanup.start(watch, stack)
    run = await cleanup.begin(days=None, by="key_1f2e")      # now; else each night at GENLEDGER_CLEANUP_AT

A run begins with a horizon record on every partition; the ledgers sweep, each its own partitions, and say
when they have ended (`streams/retention.py`). The leader keeps nothing: how the newest run stands it asks
the ledgers, so whoever leads next knows as much. A night that was missed is made up for at start. A
beginning that reached some partitions only is completed. While the log or a ledger is away it waits.
"""

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, Literal

import aiohttp
import msgspec

from genledger.roles.nightly import DAY_MS, came_by_ms, is_due
from genledger.roles.sweeps import Sweeps
from genledger.roles.tasks import keep
from genledger.roles.undecided import decided_to
from genledger.watch import Watch
from streams import clock, records, retention, times, topics
from streams.clock import Clock, monotonic_s
from streams.errors import GenledgerError, LogUnavailable
from streams.known import Horizon
from streams.log.ends import ends_after
from streams.log.interface import Log
from streams.retention import Stand
from streams.settings import Settings
from streams.sweeper import Count

LOOK_EVERY_S = 0.5
# How often the ledgers are asked: while a run is under way, while none is, after a failure.
GOING_ASK_S = 2.0
RESTING_ASK_S = 30.0
RETRY_S = 5.0
# Until the ledgers have decided what was on the log: what they know of runs is then the newest.
DECIDED_WITHIN_S = 10.0
DECIDED_LOOK_S = 0.1
KNOWN_LOOKS = 20
# A ledger that is away for a moment, at its start say, is no alarm.
ALARM_AFTER_S = 60.0
# A run of ordinary size ends within minutes.
LONG_MS = 3 * 3_600_000
NIGHTLY = "the nightly run"
# Clocks differ, by a day at the worst.
AHEAD_MS_MAX = 25 * 3_600_000

State = Literal["running", "ended", "failed"]

_logger = logging.getLogger("genledger.cleanup")


class NotNow(GenledgerError):
    """A run can't begin now; `code` says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Course(msgspec.Struct, frozen=True):
    """How the newest run stands in all partitions together."""

    run: Horizon
    state: State
    started_ms: int
    going: tuple[int, ...]  # the partitions in which it has not ended
    absent: tuple[int, ...]  # those that do not know of it: its beginning was interrupted
    scanned: int
    published: int
    horizon_ns: int


def course_of(stands: Sequence[Stand]) -> Course | None:
    """The newest run of all partitions, taken together; None when there was none. Pure."""
    newest = max((stand for stand in stands if stand.run), key=lambda one: one.started_ms, default=None)
    if newest is None:
        return None
    mine = [stand for stand in stands if stand.run == newest.run]
    going = tuple(stand.partition for stand in mine if stand.phase == "started")
    absent = tuple(stand.partition for stand in stands if stand.run != newest.run)
    failed = any(stand.phase == "failed" for stand in mine)
    return Course(
        # The horizon that a partition has may be a higher one's.
        run=retention.beginning(newest.run, newest.cutoff_ns, newest.days, len(stands)),
        state="running" if going or absent else "failed" if failed else "ended",
        started_ms=min(stand.started_ms for stand in mine),
        going=going,
        absent=absent,
        scanned=sum(stand.scanned for stand in mine),
        published=sum(stand.published for stand in mine),
        horizon_ns=max(stand.horizon_ns for stand in stands),
    )


def next_ms(at: str, now_ms: int) -> int:
    """When the time of day, in UTC, comes by next. Pure.

    >>> next_ms("00:05", now_ms=0), next_ms("00:05", now_ms=300_000)
    (300000, 86700000)
    """
    return came_by_ms(at, now_ms) + DAY_MS


def new_run(now_ms: int) -> str:
    """The name of a run that begins now: another one's, begun in the same second, differs."""
    return f"cleanup-{datetime.fromtimestamp(now_ms / 1000, UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


class Cleanup:
    """Begins runs, and knows how the newest stands."""

    def __init__(self, settings: Settings, log: Log, sweeps: Sweeps, now_ms: Clock = clock.now_ms) -> None:
        self._settings = settings
        self._log = log
        self._sweeps = sweeps
        self._now_ms = now_ms
        self._lock = asyncio.Lock()
        self._begun_by: tuple[str, str] = "", ""  # the last run that we have begun, and for whom
        self._course: Course | None = None
        self._first_ms: int | None = None
        self._tried_ms = 0  # the brokers' clock may be behind ours
        self._ask_at_s = 0.0
        self._trouble = ""
        self._troubled_s = 0.0

    async def start(self, watch: Watch, stack: AsyncExitStack) -> None:
        """Look after the nights until the stack ends."""
        watch.cleanup = self.told
        watch.alarms["the clean-up"] = self.alarm
        stack.callback(_forget, watch)
        keep(self._go_on(), "the clean-up", watch, stack)

    async def begin(self, days: int | None, by: str) -> Horizon:
        """Begin a run, for so many days instead of those of the settings; `NotNow` while one is under way."""
        if not self._settings.cleanup_enabled:
            message = "CLEANUP_ENABLED is false, so nothing is forgotten: set it to true, and start again"
            raise NotNow("cleanup_disabled", message)
        async with self._lock:
            course = await self._asked(to_act=True)
            if course is not None and course.state == "running":
                raise NotNow("cleanup_running", self._under_way(course))
            return await self._begin(days, by)

    async def planned(self, days: int | None) -> tuple[Horizon, Mapping[str, Count], int]:
        """What a run would be that began now, what it would forget, and the horizon as it is."""
        course = await self._asked()
        run = await self._plan(days)
        counts = await self._sweeps.count(run.cutoff_ns)
        return run, counts, 0 if course is None else course.horizon_ns

    async def stands(self) -> Sequence[Stand]:
        """How the newest run stands in each partition, as far as its ledger is."""
        return await self._sweeps.stands()

    def told(self) -> Mapping[str, Any]:
        """For the status."""
        settings, course = self._settings, self._course
        is_on = settings.cleanup_enabled and settings.cleanup_at
        return {
            "enabled": settings.cleanup_enabled,
            "days": settings.cleanup_retention_days,
            "next": _time_of(next_ms(settings.cleanup_at, self._now_ms())) if is_on else None,
            "run": course and course.run.run,
            "started_at": course and _time_of(course.started_ms),
            "state": course and course.state,
            "forgotten": (course and course.published) or None,
            "horizon_date": times.day_of(course.horizon_ns, "UTC") if course and course.horizon_ns else None,
        }

    def alarm(self) -> str:
        """What an operator must know; of a run that failed the audit tells."""
        if not self._settings.cleanup_enabled:
            return ""
        if self._trouble and monotonic_s() - self._troubled_s > ALARM_AFTER_S:
            return f"how far ids are forgotten can't be told: {self._trouble}"
        course = self._course
        if course is None:
            return ""
        if course.state == "running" and self._now_ms() - course.started_ms > LONG_MS:
            partitions = ", ".join(map(str, sorted((*course.going, *course.absent))))
            return f"{course.run.run} has not ended for hours in the partitions {partitions}"
        return ""

    async def _go_on(self) -> None:
        """Until cancelled. Whatever fails is tried again: one night is not the service's."""
        while True:
            try:
                await self.look()
            except (GenledgerError, aiohttp.ClientError, TimeoutError) as error:
                self._troubled(str(error) or type(error).__name__)
            except Exception as error:
                _logger.exception("the clean-up can't go on; it is tried again")
                self._troubled(type(error).__name__)
            await asyncio.sleep(LOOK_EVERY_S)

    def _troubled(self, trouble: str) -> None:
        if not self._trouble:
            self._troubled_s = monotonic_s()
        self._trouble = trouble
        self._ask_at_s = monotonic_s() + RETRY_S

    async def look(self) -> None:
        """Begin what is due, and complete what was interrupted. Called a few times a second."""
        if monotonic_s() < self._ask_at_s and (self._trouble or not self._is_due()):
            return
        async with self._lock:
            course = await self._asked()
            if self._settings.cleanup_enabled and ((course and course.absent) or self._is_due()):
                await self._act(await self._asked(to_act=True))
        self._trouble = ""

    async def _act(self, course: Course | None) -> None:
        if course is not None and course.absent:
            await self._complete(course)
        elif self._is_due():
            await self._begin(None, NIGHTLY)

    def _is_due(self) -> bool:
        """Whether tonight's run is to be begun now, by what is known: not while another is under way.

        Where there never was one, the first is the first night after the log's first record.
        """
        course, settings = self._course, self._settings
        if course is not None and course.state == "running":
            return False
        last_ms = self._first_ms if course is None else course.started_ms
        if not (last_ms and settings.cleanup_enabled and settings.cleanup_at):
            return False
        return is_due(settings.cleanup_at, max(last_ms, self._tried_ms), self._now_ms())

    async def _asked(self, *, to_act: bool = False) -> Course | None:
        """How the newest run stands, asked for. To act by it, every run that is on the log must be in it."""
        if to_act:
            await self._decided()
        self._course = course = course_of(await self.stands())
        if course is None and not self._first_ms:
            self._first_ms = await first_ms(self._log)
        under_way = course is not None and course.state == "running"
        self._ask_at_s = monotonic_s() + (GOING_ASK_S if under_way else RESTING_ASK_S)
        return course

    async def _plan(self, days: int | None) -> Horizon:
        newest_ms = await retention.newest_ms(self._log)
        if not newest_ms:
            raise NotNow("log_empty", "the log is empty: there is nothing to forget")
        if newest_ms > self._now_ms() + AHEAD_MS_MAX:
            # A horizon never falls: raised by a clock a year ahead, all calls of that year would expire.
            raise NotNow(
                "log_ahead",
                f"the newest record on the log is of {_time_of(newest_ms)}, far ahead of this machine's"
                " clock: set right whichever is wrong",
            )
        kept_days = self._settings.cleanup_retention_days if days is None else days
        return retention.plan(newest_ms, kept_days, self._partitions(), new_run(self._now_ms()))

    async def _begin(self, days: int | None, by: str) -> Horizon:
        run = await self._plan(days)
        self._begun_by = run.run, by
        self._ask_at_s = 0.0  # also where it is not known whether the log has it
        await self._log.append(retention.start_messages(run))
        self._tried_ms = self._now_ms()
        _logger.info(
            "%s begins, for %s: ids whose latest date is before %s are forgotten",
            *(run.run, by, times.day_of(run.cutoff_ns, "UTC")),
        )
        await self._known(run)
        return run

    async def _known(self, run: Horizon) -> None:
        """Until the ledgers know of it, for a moment at most: who asks next is told of it."""
        for _ in range(KNOWN_LOOKS):
            try:
                course = await self._asked(to_act=True)
            except LogUnavailable:  # it is on the log: whoever looks next waits for it
                return
            if course is not None and course.run.run == run.run and not course.absent:
                return
            await asyncio.sleep(DECIDED_LOOK_S)

    async def _complete(self, course: Course) -> None:
        """A beginning that reached some partitions only: the others get the same. Twice is as once."""
        messages = [records.horizon_message(course.run, partition) for partition in course.absent]
        await self._log.append(messages)
        self._ask_at_s = 0.0
        _logger.warning(
            "%s had begun in some partitions only: it begins in %s now",
            *(course.run.run, ", ".join(map(str, course.absent))),
        )

    def _under_way(self, course: Course) -> str:
        run, by = self._begun_by
        whose = f" for {by}" if run == course.run.run else ""
        at = _time_of(course.started_ms)
        return f"{course.run.run} is under way, begun{whose} at {at}: wait for its end"

    def _partitions(self) -> int:
        return self._log.partitions(topics.GENERATIONS)

    async def _decided(self) -> None:
        """Until the ledgers have decided all that was on the log; `LogUnavailable` when that takes long."""
        ends: Mapping[int, int] | None = None
        deadline_s = monotonic_s() + DECIDED_WITHIN_S
        while True:
            places = {n: await decided_to(self._log, n) for n in range(self._partitions())}
            now = await ends_after(self._log, topics.GENERATIONS, places)
            ends = now if ends is None else ends
            # Behind a place there may be markers only: then it is the end.
            if all(at >= min(ends[n], now[n]) for n, at in places.items()):
                return
            if monotonic_s() > deadline_s:
                raise LogUnavailable(
                    "the ledger is behind: whether a run is under way shows once it has caught up"
                )
            await asyncio.sleep(DECIDED_LOOK_S)


async def first_ms(log: Log) -> int:
    """The log time of the oldest fact; 0 while there is none."""
    await log.refresh([topics.USAGE])
    oldest = []
    for partition in range(log.partitions(topics.USAGE)):
        start = log.start_offset(topics.USAGE, partition)
        oldest += [record.time_ms for record in await log.read(topics.USAGE, partition, start, 1)]
    return min(oldest, default=0)


def _time_of(time_ms: int) -> str:
    return times.text_of(time_ms * times.MS_NS)


def _forget(watch: Watch) -> None:
    watch.cleanup = lambda: None
    watch.alarms.pop("the clean-up", None)
