"""A command each night, as a process of its own, and what the last one has found.

    nightly = Nightly(Work("the proof", ("prove",), "02:30", "prove-last.json", ...), settings)
    nightly.start(watch, stack)

Whoever keeps the views starts it, at its time of day in UTC; a night that was missed is made up for at the
next start. The result is a file beside the views, so a run made by hand counts as well.
"""

import asyncio
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from prometheus_client import Gauge

from genledger.roles.tasks import keep
from genledger.roles.views import path_of
from genledger.watch import Watch
from streams import clock, times
from streams.settings import Settings

LOOK_EVERY_S = 1.0
DAY_MS = 86_400_000
MINUTE_MS = 60_000
DIFFERENT = 3

_logger = logging.getLogger("genledger.nightly")


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of every nightly comparison; each has more."""

    time_ms: int
    holds: bool
    differences: int
    seconds: float


ResultT = TypeVar("ResultT", bound=Result)


class Work(msgspec.Struct, Generic[ResultT], frozen=True):
    """What is done each night: its name, its command, when, and where its result lies and shows."""

    name: str
    command: Sequence[str]
    at: str
    file: str
    result: type[ResultT]
    timestamp: Gauge
    differences: Gauge


def keep_result(live: Path, file: str, result: Result) -> None:
    """Write a result beside the views, at once."""
    path = live.with_name(file)
    begun = path.with_name(file + ".part")
    begun.write_bytes(msgspec.json.encode(result))
    begun.rename(path)


def last_result(live: Path, file: str, kind: type[ResultT]) -> ResultT | None:
    """The last result; None when there was none."""
    try:
        return msgspec.json.decode(live.with_name(file).read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None


def is_due(at: str, last_ms: int, now_ms: int) -> bool:
    """Whether the time of day, in UTC, has come by since the last one. Pure.

    >>> is_due("02:00", last_ms=0, now_ms=2 * 3_600_000)
    True
    >>> is_due("02:00", last_ms=2 * 3_600_000, now_ms=25 * 3_600_000)
    False
    """
    return last_ms < came_by_ms(at, now_ms) <= now_ms


def came_by_ms(at: str, now_ms: int) -> int:
    """When the time of day, in UTC, came by last. Pure."""
    hour, _, minute = at.partition(":")
    time_ms = (int(hour) * 60 + int(minute)) * MINUTE_MS
    return (now_ms - time_ms) // DAY_MS * DAY_MS + time_ms


class Nightly(Generic[ResultT]):
    """Starts it, and knows the last one's result."""

    def __init__(self, work: Work[ResultT], settings: Settings) -> None:
        self._work = work
        self._settings = settings
        self._live = path_of(settings)
        self._began_ms = clock.now_ms()
        self._tried_ms = 0
        self._last: ResultT | None = None
        self._failed_code = 0
        self._look()

    def told(self) -> Mapping[str, Any] | None:
        """For the status."""
        last = self._last
        if last is None:
            return None
        found: dict[str, Any] = msgspec.to_builtins(last)
        return {"time": times.text_of(found.pop("time_ms") * times.MS_NS), **found}

    def alarm(self) -> str:
        """What an operator must know."""
        if self._failed_code:
            return f"the last {self._noun} ended with code {self._failed_code}: its message is in our log"
        if self._last is None or self._last.holds:
            return ""
        found, command = self._last.differences, " ".join(self._work.command)
        return f"the last {self._noun} found {found} differences: see `genledger {command}`"

    @property
    def _noun(self) -> str:
        return self._work.name.removeprefix("the ")

    def start(self, watch: Watch, stack: AsyncExitStack) -> None:
        """Begin, and end with the stack."""
        watch.alarms[self._work.name] = self.alarm
        keep(self._go_on(), f"the nightly {self._noun}", watch, stack)

    async def _go_on(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self._look()
            now_ms = clock.now_ms()
            if self._work.at and is_due(self._work.at, self._last_ms(), now_ms):
                self._tried_ms = now_ms
                await self._run()

    def _last_ms(self) -> int:
        """When there was one, or was begun one; a new installation has its first the next night."""
        return max(self._tried_ms, self._began_ms if self._last is None else self._last.time_ms)

    def _look(self) -> None:
        self._last = last_result(self._live, self._work.file, self._work.result)
        if self._last is not None:
            if self._last.time_ms >= self._tried_ms:
                self._failed_code = 0  # it was done since, by hand
            self._work.timestamp.set(self._last.time_ms / 1000)
            self._work.differences.set(self._last.differences)

    async def _run(self) -> None:
        # In our environment and our folder: with the settings that we have.
        command = (sys.executable, "-m", "genledger", *self._work.command, "--data", self._settings.data)
        process = await asyncio.create_subprocess_exec(
            "nice", "-n", "10", *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
        if code not in (0, DIFFERENT):
            self._failed_code = code
            _logger.error("%s ended with code %d: its message is above this one", self._work.name, code)
